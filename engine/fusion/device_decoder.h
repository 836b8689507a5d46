// DeviceDecoder: the tokens of an answer on a device, one after the other.
//
// A step runs one row through the model, adds up what it attends to in the layers that citations
// are made of, and brings logits and attention to the host, where the next token is drawn: 4 bytes
// for each word of the vocabulary and each position, some microseconds over the link.
//
// Thread safety: owned by one thread at a time.
// Lifetime: the transformer must outlive it, and the pages of a step that step.
#pragma once

#include <cstdint>
#include <memory>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/fusion/fusion_backend.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::engine {

class DeviceDecoder {
 public:
  // Errors: those of kernels::UseDevice; kResourceExhausted.
  static Result<std::unique_ptr<DeviceDecoder>> Create(const model::CudaTransformer& transformer);
  // Waits for what is under way.
  ~DeviceDecoder();
  DeviceDecoder(const DeviceDecoder&) = delete;
  DeviceDecoder& operator=(const DeviceDecoder&) = delete;

  // As FusedRun::Step. REQUIRES: `kv` holds all keys before `position`, placed by work that has
  // been waited for.
  Result<FusedStep> Step(const model::DeviceKv& kv, int32_t token, int64_t position,
                         const CancelToken* cancel);

  // Waits until no step is under way. Errors: kInternal if the device has failed.
  Status Finish() const;

 private:
  struct State;
  explicit DeviceDecoder(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::engine
