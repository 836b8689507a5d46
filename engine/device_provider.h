// DeviceProvider: the devices of a machine, onto which models and codes of vectors are put.
//
// Behind it stands CUDA in builds that have it (local_devices_cuda.cc), and nothing in others
// (local_devices_none.cc); tests stand in devices that run short of memory or fail.
//
// Thread safety: thread-safe.
#pragma once

#include <cstdint>
#include <memory>

#include "base/memory_source.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/fusion_backend.h"
#include "index/code_scanner.h"
#include "model/cuda_transformer.h"
#include "model/gguf.h"

namespace intarsia::engine {

struct DeviceModelOptions {
  int32_t index = 0;  // of the device
  // Memory on the device for the keys and values of prompts. 0: as much as two prompts of the
  // model's longest context take, and at most a quarter of what is free.
  int64_t kv_bytes_max = 0;
  // Memory on the device for caches that stay there between prompts. 0: none stay.
  int64_t cache_bytes_max = 0;
  model::CudaCompute compute = model::CudaCompute::kBf16;  // of products of many rows
  ThreadPool* threads = nullptr;                           // outlives the backend
};

class DeviceProvider {
 public:
  virtual ~DeviceProvider() = default;
  // Whether this program can use devices at all.
  virtual bool is_built() const = 0;
  // Errors: kUnsupported, with what is missing, if the program cannot use devices or there is no
  // driver or no device; kInvalidArgument for an index that does not exist.
  virtual Status Check(int32_t index) const = 0;
  // Copies the weights of a model to a device. Takes seconds. The file is not needed afterwards.
  // Errors: those of Check; kResourceExhausted if the memory does not suffice; kUnsupported for a
  // model that there are no kernels for; kInternal if the device fails.
  virtual Result<std::unique_ptr<FusionBackend>> Load(const model::GgufFile& file,
                                                      const DeviceModelOptions& options) = 0;
  // A scanner on a device, without codes as yet. Errors: those of Check; kResourceExhausted.
  virtual Result<std::unique_ptr<index::CodeScanner>> MakeCodeScanner(int32_t index) = 0;
  // Memory that devices copy from by themselves, at the speed of the link; null if there is none.
  virtual std::shared_ptr<MemorySource> PinnedMemory() = 0;
};

// The devices of this machine. Lives as long as the program.
DeviceProvider* LocalDevices();

}  // namespace intarsia::engine
