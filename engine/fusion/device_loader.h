// DeviceLoader: brings the cached layers of a prompt to a device, ahead of the computation.
//
// A thread of its own enqueues the copies of layer after layer on a stream of its own: from pinned
// memory as they are, others by way of a pinned staging buffer into which it reads and verifies
// them. What lies on the device already is not copied, and needs no thread. Computation is held
// back by an event per layer, never by a wait of the host for the device, so layer l + 1 is copied
// while layer l is computed. All layers stay on the device until the loader goes, because
// propagation needs the cached values once more after the question's pass.
//
// Thread safety: owned by one thread; the enqueuing thread is its own.
// Lifetime: the prompt, its KvSources, the staging and both streams must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/result.h"
#include "engine/fusion/device_tables.h"
#include "engine/fusion/prompt.h"
#include "kernels/device.h"

namespace intarsia::engine {

// Pinned memory through which payloads go that must be read. Slots are used in turn.
//
// Thread safety: owned by one DeviceLoader at a time.
class PinnedStaging {
 public:
  // `budget_bytes` is shared by as many slots as payloads of one layer fit into it, at most 64.
  explicit PinnedStaging(int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // Makes slots of at least `slot_bytes`. Slow when they grow. REQUIRES: no copy is under way.
  // Errors: kResourceExhausted, also if one slot is larger than the budget.
  Status Prepare(int64_t slot_bytes);
  // The next slot, once the copy from it is done. Errors: those of the copy.
  Result<std::span<uint8_t>> Next();
  // Says that the slot of the last Next is read by what `stream` holds so far.
  Status MarkInUse(kernels::Stream stream);
  // Waits for all copies.
  void Drain();

 private:
  const int64_t budget_bytes_;
  int64_t slot_bytes_ = 0;
  kernels::PinnedBuffer memory_;
  std::vector<kernels::DeviceEvent> events_;  // one a slot
  size_t next_ = 0;
  size_t last_ = 0;
};

// What loads keep from request to request, because to make it takes longer than a layer's copy.
//
// Thread safety: owned by one DeviceLoader at a time.
// Lifetime: the stream of the loads' computation must outlive it.
class LoadReserve {
 public:
  // `staging_bytes` is the budget of PinnedStaging.
  explicit LoadReserve(int64_t staging_bytes) : staging_(staging_bytes) {}

 private:
  friend class DeviceLoader;

  // Of a layer, by events.
  struct Marks {
    kernels::DeviceEvent copied;       // on the copying stream, behind the layer
    kernels::DeviceEvent placed;       // on a stream of its own
    kernels::DeviceEvent before_wait;  // on the computing stream, for either of them
    bool is_waited = false;
    bool is_placed = false;

    const kernels::DeviceEvent& awaited() const { return is_placed ? placed : copied; }
  };

  // Makes room for a request. REQUIRES: the one before is done, but for work on `stream`.
  // Errors: kResourceExhausted.
  Status Prepare(int32_t num_layers, int64_t num_bytes, kernels::Stream stream);
  // Gives back, on the stream of Prepare, what is too much to keep.
  void Trim();

  PinnedStaging staging_;
  std::optional<kernels::DeviceEvent> begin_;
  std::vector<Marks> marks_;  // of as many layers as any request had
  kernels::DeviceBuffer memory_;
};

class DeviceLoader {
 public:
  struct Streams {
    int32_t device = 0;
    kernels::Stream compute = nullptr;  // memory is given back on it
    kernels::Stream copy = nullptr;
    PinnedArena* arena = nullptr;  // for a table; its piece lives until the stream is done
  };

  // Allocates and starts. `kv_size` is ModelConfig::kv_size().
  // Errors: kResourceExhausted; kUnsupported for a payload whose type is unknown.
  static Result<std::unique_ptr<DeviceLoader>> Start(const Prompt& prompt, int32_t num_layers,
                                                     int32_t kv_size, const Streams& streams,
                                                     LoadReserve* reserve);
  // Stops after the extent at hand and waits for the copies.
  ~DeviceLoader();
  DeviceLoader(const DeviceLoader&) = delete;
  DeviceLoader& operator=(const DeviceLoader&) = delete;

  // What is enqueued on the computing stream from here on starts when `layer` is there, and placed
  // if MarkPlaced said so. Waits until its copies are enqueued. Errors: what a KvSource returned;
  // failed_segment() then says which.
  Status HoldBack(int32_t layer);
  // The same for another stream, on which the layer is placed ahead of the computation, with copies
  // alone; and that it is placed there when that stream comes here.
  Status HoldBackPlacing(int32_t layer, kernels::Stream placing);
  Status MarkPlaced(int32_t layer, kernels::Stream placing);

  // The index of the segment whose cache could not be read, after HoldBack returned an error.
  std::optional<size_t> failed_segment() const;

  // The payloads of a layer, on the device: [segments]; null for a segment without a cache.
  const uint8_t* const* payloads(int32_t layer) const;
  // The same of one segment, which has a cache, and the bytes that lie there.
  const uint8_t* payload(int32_t layer, size_t segment) const;
  int64_t payload_bytes(size_t segment) const { return sizes_[segment]; }

  // Bytes of all layers by where they are when the load begins: to be read, in pinned memory, on
  // the device.
  struct Bytes {
    int64_t read = 0;
    int64_t pinned = 0;
    int64_t on_device = 0;
  };
  const Bytes& bytes() const { return bytes_; }
  // Milliseconds that the copying stream was at work, and that the computing stream stood still for
  // it. REQUIRES: HoldBack of the last layer, and the computing stream has been waited for.
  Result<double> LoadMilliseconds() const;
  Result<double> WaitMilliseconds() const;

 private:
  DeviceLoader(const Prompt& prompt, int32_t num_layers, int32_t kv_size, const Streams& streams,
               LoadReserve* reserve);
  bool is_loading() const { return bytes_.read + bytes_.pinned > 0; }
  Status Allocate();
  Status EnqueueFirst();
  void Enqueue();
  Status EnqueueLayer(int32_t layer);
  Status EnqueueSegment(int32_t layer, size_t segment);
  Status WaitUntilEnqueued(int32_t layer);
  LoadReserve::Marks& marks(int32_t layer) const {
    return reserve_.marks_[static_cast<size_t>(layer)];
  }
  // Where a layer of a copied segment goes: where its source wants it, or into the reserve's
  // memory.
  uint8_t* TargetOf(int32_t layer, size_t segment) const;

  // Immutable after Start.
  const Prompt& prompt_;
  const int32_t num_layers_;
  const int32_t kv_size_;
  const Streams streams_;
  LoadReserve& reserve_;
  std::vector<int64_t> offsets_;  // [segments] within a layer; -1 if nothing is copied
  std::vector<int64_t> sizes_;    // [segments]
  int64_t bytes_per_layer_ = 0;   // in the reserve's memory
  Bytes bytes_;
  DeviceTables tables_;
  DeviceTables::Offset pointers_at_ = 0;  // [num_layers, segments]
  // Of whoever enqueues: of the layer at hand, from memory that is pinned already.
  std::vector<kernels::DeviceCopy> pinned_copies_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  int32_t num_enqueued_ = 0;
  bool is_stopping_ = false;
  Status error_;
  std::optional<size_t> failed_segment_;

  std::thread thread_;  // Last: it uses everything above. None where nothing is left to enqueue.
};

}  // namespace intarsia::engine
