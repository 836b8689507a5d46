// DeviceKvBuilder: computes the KV caches of runs of tokens on a device, several in a pass.
//
// The device's form of BuildKv, in bf16. A pass has the rows of several runs, each behind rows of
// the header, which cost less than placing its cache and are dropped. While the device computes
// layer l + 1, keys and values of layer l come to the host by way of pinned memory and are encoded
// there, the runs side by side; where a pass has hundreds of rows, the host is the faster of the
// two.
//
// Thread safety: owned by one thread at a time.
// Lifetime: the transformer, the pages and the threads must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/kv_builder.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::engine {

class DeviceKvBuilder {
 public:
  // Memory for rows is allocated by the first runs, and kept.
  // Errors: those of kernels::UseDevice; kResourceExhausted.
  static Result<std::unique_ptr<DeviceKvBuilder>> Create(const model::CudaTransformer& transformer,
                                                         model::DeviceKvPool* pages,
                                                         ThreadPool* threads);
  ~DeviceKvBuilder();
  DeviceKvBuilder(const DeviceKvBuilder&) = delete;
  DeviceKvBuilder& operator=(const DeviceKvBuilder&) = delete;

  // The caches of the runs, in their order. They are computed in one pass, or in several where
  // pages or memory do not suffice for all at once.
  // Errors: kInvalidArgument for no tokens, a token outside the vocabulary or too many of them;
  // kUnsupported if the numbers cannot be quantised; kResourceExhausted if pages or memory do not
  // suffice for a run; kCancelled; kInternal if the device fails.
  Result<std::vector<std::unique_ptr<MemoryKv>>> Build(const KvRuns& runs);

 private:
  struct State;
  class Pass;
  explicit DeviceKvBuilder(std::unique_ptr<State> state);
  Result<std::vector<std::unique_ptr<MemoryKv>>> BuildTogether(const KvRuns& runs);
  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::engine
