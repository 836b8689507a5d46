// Device: what a CUDA device is to the rest of the program: memory, streams and events that clean
// up after themselves, without a CUDA type in sight.
//
// Memory comes from the driver's stream-ordered pool, which keeps what is given back, so that
// allocating and freeing on a stream neither waits for the device nor asks the system. It goes back
// to the system, where other processes find it, by ReturnFreeMemory. Everything here belongs to the
// device that the calling thread has chosen with UseDevice. Only builds with INTARSIA_CUDA define
// these functions; such a build also starts on a machine without a driver, where each of them says
// so.
//
// Thread safety: the functions may be called concurrently; an object is owned by one thread at a
// time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "kernels/stream.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace intarsia::kernels {

struct DeviceInfo {
  std::string name;
  int32_t capability = 0;  // 10 * major + minor: 90 for Hopper
  int32_t num_multiprocessors = 0;
  int64_t l2_bytes = 0;
  int64_t memory_bytes = 0;  // of the device
  int64_t free_bytes = 0;    // now, with other processes' use and this process's pool taken off
  int64_t pool_bytes = 0;    // what this process's pool holds, used or kept for later
};

// The number of devices, at least 1.
// Errors: kUnsupported without a driver or a device.
Result<int32_t> CountDevices();

// Errors: kUnsupported without a driver, kInvalidArgument for an index that does not exist.
Result<DeviceInfo> QueryDevice(int32_t index);

// Makes `index` the calling thread's device. Cheap when it already is.
// Errors: kUnsupported without a driver or for a device older than compute capability 8.0,
// kInvalidArgument for an index that does not exist.
Status UseDevice(int32_t index);

// Gives the system what this process's pool keeps of the device's memory and nobody uses any more,
// as far as the work before it was freed is done. For when much has become free that may not be
// wanted again: it takes milliseconds, and the next allocations ask the system.
// Errors: those of QueryDevice; kInternal.
Status ReturnFreeMemory(int32_t index);

enum class StreamPriority : uint8_t { kNormal = 0, kHigh = 1 };

// A stream that does not synchronise with the default stream.
class DeviceStream {
 public:
  // Errors: those of UseDevice; kResourceExhausted.
  static Result<DeviceStream> Create(StreamPriority priority);
  ~DeviceStream();
  DeviceStream(DeviceStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  DeviceStream& operator=(DeviceStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }

  Stream get() const { return stream_; }

 private:
  explicit DeviceStream(Stream stream) : stream_(stream) {}
  Stream stream_ = nullptr;
};

// The stream of an owner of much memory, declared in front of it. When it goes, last, it waits for
// the memory to be free and returns it to the system.
class OwnerStream {
 public:
  // `stream` is one of the device `index`.
  OwnerStream(int32_t index, DeviceStream stream) : index_(index), stream_(std::move(stream)) {}
  ~OwnerStream();
  OwnerStream(const OwnerStream&) = delete;
  OwnerStream& operator=(const OwnerStream&) = delete;

  Stream get() const { return stream_.get(); }

 private:
  const int32_t index_;
  const DeviceStream stream_;
};

// Waits until everything enqueued on `stream` is done. Errors: kInternal with what went wrong in
// any of it, which leaves this process's use of the device broken; kResourceExhausted.
Status WaitFor(Stream stream);

enum class EventTiming : uint8_t { kOff = 0, kOn = 1 };

// A mark on a stream.
class DeviceEvent {
 public:
  static Result<DeviceEvent> Create(EventTiming timing);
  ~DeviceEvent();
  DeviceEvent(DeviceEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  DeviceEvent& operator=(DeviceEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  // Marks what is enqueued on `stream` so far.
  Status Record(Stream stream);
  // What is enqueued on `stream` from here on starts after the mark. Does not wait. An event that
  // was never recorded holds up nothing.
  Status HoldBack(Stream stream) const;
  // Waits, without spinning, until the mark is reached. Errors: as WaitFor.
  Status Wait() const;
  // Whether the mark is reached. Errors: as WaitFor.
  Result<bool> IsReached() const;
  // Milliseconds on the device from `start` to this mark.
  // REQUIRES: both were created with EventTiming::kOn, recorded and reached.
  Result<float> MillisecondsSince(const DeviceEvent& start) const;

 private:
  explicit DeviceEvent(CUevent_st* event) : event_(event) {}
  CUevent_st* event_ = nullptr;
};

// Uninitialised memory on the device, aligned to 256 bytes.
// Lifetime: is given back on `stream`, which must outlive it, behind the work enqueued there by
// then. Work of other streams on it must be done, or held back by an event, before.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // May be used by work that is enqueued on `stream` afterwards. 0 bytes give an empty buffer.
  // Errors: kResourceExhausted with the sizes, kInvalidArgument for a negative size.
  static Result<DeviceBuffer> Allocate(int64_t num_bytes, Stream stream);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { Swap(&other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    Swap(&other);
    return *this;
  }

  int64_t num_bytes() const { return num_bytes_; }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void Swap(DeviceBuffer* other) {
    std::swap(data_, other->data_);
    std::swap(num_bytes_, other->num_bytes_);
    std::swap(stream_, other->stream_);
  }

  void* data_ = nullptr;
  int64_t num_bytes_ = 0;
  Stream stream_ = nullptr;
};

// Host memory that the device copies from and to at the link's full speed and asynchronously.
// Slow to allocate: for start-up, never for a request.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  // Errors: kResourceExhausted, kInvalidArgument for a negative size, kUnsupported without a
  // driver.
  static Result<PinnedBuffer> Allocate(int64_t num_bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        num_bytes_(std::exchange(other.num_bytes_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    return *this;
  }

  int64_t num_bytes() const { return num_bytes_; }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t num_bytes_ = 0;
};

// A recorded sequence of work, enqueued as one: what a loop repeats often with the same pointers
// and sizes and other data, so that the host does not launch each kernel anew.
class DeviceGraph {
 public:
  DeviceGraph() = default;
  // Calls `enqueue`, which enqueues work on `stream`, and records that work instead of running it.
  // `enqueue` must not wait and must not allocate.
  // Errors: what `enqueue` returns; kInternal for what cannot be recorded.
  static Result<DeviceGraph> Record(Stream stream, const std::function<Status()>& enqueue);
  ~DeviceGraph();
  DeviceGraph(DeviceGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  DeviceGraph& operator=(DeviceGraph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }

  // Enqueues the recorded work. REQUIRES: made by Record.
  Status Launch(Stream stream) const;

 private:
  explicit DeviceGraph(CUgraphExec_st* graph) : graph_(graph) {}
  CUgraphExec_st* graph_ = nullptr;
};

// Copies on `stream`. Asynchronous between devices and pinned memory; a copy from pageable memory
// returns when the source may be reused, one to pageable memory when it is done.
// Errors: kInternal if the copy cannot be enqueued.
Status CopyToDevice(void* target, const void* source, int64_t num_bytes, Stream stream);
Status CopyToHost(void* target, const void* source, int64_t num_bytes, Stream stream);
// One of several copies from pinned memory.
struct DeviceCopy {
  void* target = nullptr;
  const void* source = nullptr;
  int64_t num_bytes = 0;  // > 0
};
// All of them, in any order, with less between them than one by one. On a stream of its own.
Status CopyAllToDevice(std::span<const DeviceCopy> copies, Stream stream);
Status CopyOnDevice(void* target, const void* source, int64_t num_bytes, Stream stream);
// Rows of `row_bytes` bytes, whose begins are a stride of bytes apart. Strides are at least
// `row_bytes`.
struct DeviceRowsCopy {
  void* target = nullptr;
  int64_t target_stride = 0;
  const void* source = nullptr;
  int64_t source_stride = 0;
  int64_t row_bytes = 0;
  int64_t num_rows = 0;
};
Status CopyRowsOnDevice(const DeviceRowsCopy& copy, Stream stream);
// Sets every byte.
Status FillDevice(void* target, uint8_t value, int64_t num_bytes, Stream stream);

}  // namespace intarsia::kernels
