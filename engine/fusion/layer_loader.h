// LayerLoader: reads the cached layers of a prompt, each when it is needed.
//
// Copying and verifying is work for a processor, so the threads of the pool share it when a layer
// is needed: a reading thread beside a pool that has all cores would take turns with it, and every
// loop of the pool would wait for whoever lost its core. What has to come from the disk comes
// beside the computation, straight into the loader's memory, by a thread that only starts reads and
// waits for them (docs/decisions/0006-reading-caches.md); where that is not possible, the system's
// own reading ahead has to do. A payload that lies in memory is used in place. One whose parameters
// make no sense counts as a cache that is gone. All layers stay in memory until the loader goes,
// because propagation needs the cached values once more after the question's pass.
//
// Thread safety: owned by one thread, which shares the work with the pool.
// Lifetime: the prompt, its KvSources and the transformer must outlive it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/aligned_array.h"
#include "base/async_reader.h"
#include "base/result.h"
#include "engine/fusion/prompt.h"
#include "model/transformer.h"

namespace intarsia::engine {

class LayerLoader {
 public:
  // Begins to read. Errors: kResourceExhausted if the payloads do not fit into memory.
  static Result<std::unique_ptr<LayerLoader>> Create(const Prompt& prompt,
                                                     const model::Transformer& transformer);
  // Waits for the reads that are in flight.
  ~LayerLoader();
  LayerLoader(const LayerLoader&) = delete;
  LayerLoader& operator=(const LayerLoader&) = delete;

  // Reads and verifies `layer` unless that was done before. Blocks on the disk. Errors: what a
  // KvSource returned; failed_segment() then says which one.
  Status Load(int32_t layer);

  // The index of the segment whose cache could not be read, after Load returned an error.
  std::optional<size_t> failed_segment() const { return failed_segment_; }

  // One layer's payload of a cached segment, aligned to 4 bytes. REQUIRES: Load(layer) was OK.
  const uint8_t* payload(int32_t layer, size_t segment) const;
  int64_t payload_bytes(size_t segment) const { return sizes_[segment]; }

  // Seconds of all threads that went into reading and verifying, and of the clock during Load.
  double load_seconds() const { return load_seconds_; }
  double wait_seconds() const { return wait_seconds_; }

 private:
  LayerLoader(const Prompt& prompt, const model::Transformer& transformer);

  void ReadBeside();
  // Passes on what became of reads that are done.
  void Settle();
  Status LoadSegment(int32_t layer, size_t segment);
  size_t IndexOf(int32_t layer, size_t segment) const {
    return static_cast<size_t>(layer) * sizes_.size() + segment;
  }
  std::span<uint8_t> RoomFor(int32_t layer, size_t segment) const;
  const uint8_t*& PayloadAt(int32_t layer, size_t segment) {
    return payloads_[IndexOf(layer, segment)];
  }

  // Immutable after construction.
  const Prompt& prompt_;
  const model::Transformer& transformer_;
  std::vector<size_t> cached_;    // segments with a cache
  std::vector<int64_t> offsets_;  // [segments] of a payload within a layer; -1: in memory already
  std::vector<int64_t> sizes_;    // [segments]
  int64_t bytes_per_layer_ = 0;

  AlignedArray<uint8_t> memory_;
  uint8_t* rooms_ = nullptr;              // [num_layers, bytes_per_layer] in memory_; written once
  std::vector<const uint8_t*> payloads_;  // [num_layers, segments]
  std::vector<bool> is_loaded_;           // [num_layers]
  std::optional<size_t> failed_segment_;
  double load_seconds_ = 0.0;
  double wait_seconds_ = 0.0;

  // What the thread has found out about each read: the bytes that it brought, or what is below 0.
  static constexpr int64_t kPending = -1;
  static constexpr int64_t kLeft = -2;       // for ReadLayer
  std::vector<std::atomic<int64_t>> reads_;  // [num_layers, segments]; empty: all are left
  std::atomic<bool> is_stopping_{false};
  std::unique_ptr<AsyncReader> reader_;  // null: there is none; else the thread's
  std::thread thread_;                   // not started if nothing has to be read
};

}  // namespace intarsia::engine
