#include "kernels/device.h"

#include <atomic>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/cuda_status.h"

namespace intarsia::kernels {
namespace {

constexpr int kCapabilityMin = 80;  // asynchronous copies and bf16 products

// What a call of the runtime returned. It is reported here, so not again by the next launch of this
// thread, which asks for the last error. An error that has broken the device stays.
Status CallStatus(cudaError_t error, const char* operation) {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return CudaStatus(error, operation);
}

// What the runtime answers where there is nothing to run on.
Status PresenceStatus(cudaError_t error, const char* operation) {
  switch (error) {
    case cudaSuccess:
      return Status::Ok();
    case cudaErrorNoDevice:
      return Status(StatusCode::kUnsupported, "cuda: the driver finds no device");
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
      return Status(StatusCode::kUnsupported,
                    "cuda: no driver, or one too old for this program; install NVIDIA's driver "
                    "for CUDA 13, or use the CPU");
    default:
      return CallStatus(error, operation);
  }
}

Status NoSuchDevice(int32_t index, int32_t num_devices) {
  return Status(StatusCode::kInvalidArgument,
                "cuda: no such device: index=" + std::to_string(index) +
                    " devices=" + std::to_string(num_devices));
}

Result<cudaMemPool_t> PoolOf(int32_t index) {
  cudaMemPool_t pool = nullptr;
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaDeviceGetDefaultMemPool(&pool, index), "cuda: memory pool"));
  return pool;
}

Result<int64_t> PoolBytes(int32_t index) {
  INTARSIA_ASSIGN_OR_RETURN(cudaMemPool_t pool, PoolOf(index));
  uint64_t reserved = 0;
  INTARSIA_RETURN_IF_ERROR(
      CallStatus(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
                 "cuda: size of the memory pool"));
  return static_cast<int64_t>(reserved);
}

// Lets the pool keep what is given back instead of returning it to the system whenever a stream is
// waited for, which would make the next request allocate anew.
Status KeepPool(int32_t index) {
  INTARSIA_ASSIGN_OR_RETURN(cudaMemPool_t pool, PoolOf(index));
  uint64_t everything = UINT64_MAX;
  return CallStatus(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &everything),
                    "cuda: threshold of the memory pool");
}

std::string Megabytes(size_t num_bytes) { return std::to_string(num_bytes >> 20) + " MiB"; }

Status Copy(void* target, const void* source, int64_t num_bytes, cudaMemcpyKind kind,
            Stream stream) {
  if (num_bytes < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda copy: negative size: bytes=" + std::to_string(num_bytes));
  }
  if (num_bytes == 0) return Status::Ok();
  return CallStatus(cudaMemcpyAsync(target, source, static_cast<size_t>(num_bytes), kind, stream),
                    "cuda copy");
}

}  // namespace

Result<int32_t> CountDevices() {
  int count = 0;
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(cudaGetDeviceCount(&count), "cuda: number of devices"));
  if (count == 0) return PresenceStatus(cudaErrorNoDevice, "");
  return count;
}

Result<DeviceInfo> QueryDevice(int32_t index) {
  INTARSIA_ASSIGN_OR_RETURN(const int32_t num_devices, CountDevices());
  if (index < 0 || index >= num_devices) return NoSuchDevice(index, num_devices);
  cudaDeviceProp properties{};
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaGetDeviceProperties(&properties, index), "cuda: device properties"));
  int previous = 0;
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(cudaGetDevice(&previous), "cuda: current device"));
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(cudaSetDevice(index), "cuda: choose device"));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  const cudaError_t error = cudaMemGetInfo(&free_bytes, &total_bytes);
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(cudaSetDevice(previous), "cuda: choose device"));
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(error, "cuda: memory of the device"));
  INTARSIA_ASSIGN_OR_RETURN(const int64_t pool_bytes, PoolBytes(index));
  return DeviceInfo{.name = properties.name,
                    .capability = 10 * properties.major + properties.minor,
                    .num_multiprocessors = properties.multiProcessorCount,
                    .l2_bytes = properties.l2CacheSize,
                    .memory_bytes = static_cast<int64_t>(total_bytes),
                    .free_bytes = static_cast<int64_t>(free_bytes),
                    .pool_bytes = pool_bytes};
}

Status UseDevice(int32_t index) {
  // What is checked once needs no more than the choice, which every pass asks for.
  static std::atomic<uint64_t> checked{0};
  const uint64_t bit = index >= 0 && index < 64 ? uint64_t{1} << index : 0;
  if ((checked.load(std::memory_order_relaxed) & bit) != 0) {
    return PresenceStatus(cudaSetDevice(index), "cuda: choose device");
  }
  INTARSIA_ASSIGN_OR_RETURN(const int32_t num_devices, CountDevices());
  if (index < 0 || index >= num_devices) return NoSuchDevice(index, num_devices);
  int major = 0;
  int minor = 0;
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
                     "cuda: compute capability"));
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
                     "cuda: compute capability"));
  const int capability = 10 * major + minor;
  if (capability < kCapabilityMin) {
    return Status(StatusCode::kUnsupported,
                  "cuda: the device is too old: capability=" + std::to_string(capability) +
                      " min=" + std::to_string(kCapabilityMin));
  }
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(cudaSetDevice(index), "cuda: choose device"));
  INTARSIA_RETURN_IF_ERROR(KeepPool(index));
  checked.fetch_or(bit, std::memory_order_relaxed);
  return Status::Ok();
}

Status ReturnFreeMemory(int32_t index) {
  INTARSIA_ASSIGN_OR_RETURN(const int32_t num_devices, CountDevices());
  if (index < 0 || index >= num_devices) return NoSuchDevice(index, num_devices);
  INTARSIA_ASSIGN_OR_RETURN(cudaMemPool_t pool, PoolOf(index));
  return CallStatus(cudaMemPoolTrimTo(pool, 0), "cuda: return the memory pool's free memory");
}

Result<DeviceStream> DeviceStream::Create(StreamPriority priority) {
  int lowest = 0;
  int highest = 0;
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cuda: priorities"));
  Stream stream = nullptr;
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(
      cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                   priority == StreamPriority::kHigh ? highest : lowest),
      "cuda: new stream"));
  return DeviceStream(stream);
}

DeviceStream::~DeviceStream() {
  // An error here is one of earlier work, which its own wait has reported.
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
}

OwnerStream::~OwnerStream() {
  // As ~DeviceStream; and what is not returned is kept for later.
  WaitFor(stream_.get()).IgnoreError();
  ReturnFreeMemory(index_).IgnoreError();
}

Status WaitFor(Stream stream) {
  return CallStatus(cudaStreamSynchronize(stream), "cuda: work of a stream");
}

Result<DeviceEvent> DeviceEvent::Create(EventTiming timing) {
  cudaEvent_t event = nullptr;
  const unsigned flags = timing == EventTiming::kOn
                             ? cudaEventBlockingSync
                             : cudaEventBlockingSync | cudaEventDisableTiming;
  INTARSIA_RETURN_IF_ERROR(
      PresenceStatus(cudaEventCreateWithFlags(&event, flags), "cuda: new event"));
  return DeviceEvent(event);
}

DeviceEvent::~DeviceEvent() {
  if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));  // As ~DeviceStream.
}

Status DeviceEvent::Record(Stream stream) {
  return CallStatus(cudaEventRecord(event_, stream), "cuda: record event");
}

Status DeviceEvent::HoldBack(Stream stream) const {
  return CallStatus(cudaStreamWaitEvent(stream, event_, 0), "cuda: hold back a stream");
}

Status DeviceEvent::Wait() const {
  return CallStatus(cudaEventSynchronize(event_), "cuda: work before an event");
}

Result<bool> DeviceEvent::IsReached() const {
  const cudaError_t error = cudaEventQuery(event_);
  if (error == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // As CallStatus.
    return false;
  }
  INTARSIA_RETURN_IF_ERROR(CallStatus(error, "cuda: work before an event"));
  return true;
}

Result<float> DeviceEvent::MillisecondsSince(const DeviceEvent& start) const {
  float milliseconds = 0.0F;
  INTARSIA_RETURN_IF_ERROR(
      CallStatus(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cuda: elapsed time"));
  return milliseconds;
}

Result<DeviceBuffer> DeviceBuffer::Allocate(int64_t num_bytes, Stream stream) {
  if (num_bytes < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "device memory: negative size: bytes=" + std::to_string(num_bytes));
  }
  DeviceBuffer buffer;
  if (num_bytes == 0) return buffer;
  const cudaError_t error = cudaMallocAsync(&buffer.data_, static_cast<size_t>(num_bytes), stream);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // Reported here, so not again by the next launch.
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    static_cast<void>(cudaMemGetInfo(&free_bytes, &total_bytes));  // For the message only.
    return Status(StatusCode::kResourceExhausted,
                  "device memory: not enough: wanted=" + Megabytes(static_cast<size_t>(num_bytes)) +
                      " free=" + Megabytes(free_bytes) + " of " + Megabytes(total_bytes));
  }
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(error, "device memory"));
  buffer.num_bytes_ = num_bytes;
  buffer.stream_ = stream;
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFreeAsync(data_, stream_));  // As ~DeviceStream.
}

Result<PinnedBuffer> PinnedBuffer::Allocate(int64_t num_bytes) {
  if (num_bytes < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "pinned memory: negative size: bytes=" + std::to_string(num_bytes));
  }
  PinnedBuffer buffer;
  if (num_bytes == 0) return buffer;
  const cudaError_t error =
      cudaHostAlloc(&buffer.data_, static_cast<size_t>(num_bytes), cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // As DeviceBuffer::Allocate.
    return Status(StatusCode::kResourceExhausted,
                  "pinned memory: not enough: wanted=" + Megabytes(static_cast<size_t>(num_bytes)));
  }
  INTARSIA_RETURN_IF_ERROR(PresenceStatus(error, "pinned memory"));
  buffer.num_bytes_ = num_bytes;
  return buffer;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFreeHost(data_));  // As ~DeviceStream.
}

Result<DeviceGraph> DeviceGraph::Record(Stream stream, const std::function<Status()>& enqueue) {
  INTARSIA_RETURN_IF_ERROR(CallStatus(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed),
                                      "cuda: begin recording"));
  const Status enqueued = enqueue();
  cudaGraph_t recorded = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream, &recorded);
  cudaGraphExec_t graph = nullptr;
  const Status ended = CallStatus(error, "cuda: end recording");
  Status status = enqueued.ok() ? ended : enqueued;
  if (status.ok()) {
    status = CallStatus(cudaGraphInstantiate(&graph, recorded, 0), "cuda: make a graph");
  }
  if (recorded != nullptr) static_cast<void>(cudaGraphDestroy(recorded));
  INTARSIA_RETURN_IF_ERROR(status);
  return DeviceGraph(graph);
}

DeviceGraph::~DeviceGraph() {
  if (graph_ != nullptr) static_cast<void>(cudaGraphExecDestroy(graph_));  // As ~DeviceStream.
}

Status DeviceGraph::Launch(Stream stream) const {
  return CallStatus(cudaGraphLaunch(graph_, stream), "cuda: launch a graph");
}

Status CopyToDevice(void* target, const void* source, int64_t num_bytes, Stream stream) {
  return Copy(target, source, num_bytes, cudaMemcpyHostToDevice, stream);
}

Status CopyAllToDevice(std::span<const DeviceCopy> copies, Stream stream) {
  if (copies.empty()) return Status::Ok();
#if CUDART_VERSION >= 13000
  std::vector<void*> targets;
  std::vector<const void*> sources;
  std::vector<size_t> sizes;
  for (const DeviceCopy& copy : copies) {
    targets.push_back(copy.target);
    sources.push_back(copy.source);
    sizes.push_back(static_cast<size_t>(copy.num_bytes));
  }
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t first = 0;
  return CallStatus(cudaMemcpyBatchAsync(targets.data(), sources.data(), sizes.data(),
                                         copies.size(), &attributes, &first, 1, stream),
                    "cuda: copies");
#else
  for (const DeviceCopy& copy : copies) {
    INTARSIA_RETURN_IF_ERROR(CopyToDevice(copy.target, copy.source, copy.num_bytes, stream));
  }
  return Status::Ok();
#endif
}

Status CopyToHost(void* target, const void* source, int64_t num_bytes, Stream stream) {
  return Copy(target, source, num_bytes, cudaMemcpyDeviceToHost, stream);
}

Status CopyOnDevice(void* target, const void* source, int64_t num_bytes, Stream stream) {
  return Copy(target, source, num_bytes, cudaMemcpyDeviceToDevice, stream);
}

Status CopyRowsOnDevice(const DeviceRowsCopy& copy, Stream stream) {
  if (copy.row_bytes < 1 || copy.num_rows < 1) return Status::Ok();
  return CallStatus(
      cudaMemcpy2DAsync(copy.target, static_cast<size_t>(copy.target_stride), copy.source,
                        static_cast<size_t>(copy.source_stride),
                        static_cast<size_t>(copy.row_bytes), static_cast<size_t>(copy.num_rows),
                        cudaMemcpyDeviceToDevice, stream),
      "cuda: copy rows on a device");
}

Status FillDevice(void* target, uint8_t value, int64_t num_bytes, Stream stream) {
  if (num_bytes < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda fill: negative size: bytes=" + std::to_string(num_bytes));
  }
  if (num_bytes == 0) return Status::Ok();
  return CallStatus(cudaMemsetAsync(target, value, static_cast<size_t>(num_bytes), stream),
                    "cuda fill");
}

}  // namespace intarsia::kernels
