// LayerLoader: reads the cached layers of a prompt on its own thread, ahead of the computation.
//
// Layer l + 1 is read and verified while layer l is computed. A payload whose parameters make no
// sense counts as a cache that is gone. All layers stay in memory until the
// loader goes, because propagation needs the cached values once more after the question's pass.
//
// Thread safety: owned by one thread; the reading thread is its own.
// Lifetime: the prompt and its KvSources must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/aligned_array.h"
#include "base/status.h"
#include "engine/fusion/prompt.h"

namespace intarsia::engine {

class LayerLoader {
 public:
  // Starts reading. `kv_size` is ModelConfig::kv_size().
  LayerLoader(const Prompt& prompt, int32_t num_layers, int32_t kv_size);
  // Stops reading after the extent at hand.
  ~LayerLoader();
  LayerLoader(const LayerLoader&) = delete;
  LayerLoader& operator=(const LayerLoader&) = delete;

  // Waits until `layer` is there. Errors: what a KvSource returned; failed_segment() then says
  // which one.
  Status Wait(int32_t layer);

  // The index of the segment whose cache could not be read, after Wait returned an error.
  std::optional<size_t> failed_segment() const;

  // One layer's payload of a cached segment, 64-byte aligned. REQUIRES: Wait(layer) was OK.
  const uint8_t* payload(int32_t layer, size_t segment) const;
  int64_t payload_bytes(size_t segment) const { return sizes_[segment]; }

  int64_t bytes_per_layer() const { return bytes_per_layer_; }
  // Seconds that the reading thread has spent reading, and that Wait has spent waiting.
  double load_seconds() const;
  double wait_seconds() const { return wait_seconds_; }

 private:
  void Read();
  Status ReadSegment(int32_t layer, size_t segment);

  // Immutable after construction.
  const Prompt& prompt_;
  const int32_t num_layers_;
  const int32_t kv_size_;
  std::vector<int64_t> offsets_;  // [segments] of a payload within a layer; -1 without a cache
  std::vector<int64_t> sizes_;    // [segments]
  int64_t bytes_per_layer_ = 0;
  AlignedArray<uint8_t> memory_;  // [num_layers, bytes_per_layer]; a layer is written once

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  int32_t num_loaded_ = 0;
  bool is_stopping_ = false;
  Status error_;
  std::optional<size_t> failed_segment_;
  double load_seconds_ = 0.0;

  double wait_seconds_ = 0.0;  // Of the owner's thread.
  std::thread thread_;         // Last: it uses everything above.
};

}  // namespace intarsia::engine
