// DeviceDecoder: the tokens of an answer on a device, one after the other.
//
// A model::CudaDecoder for one request. It draws the next token on the device and leaves it where
// the next step reads it, so that the host gives a token only where an answer begins, or where it
// goes on with another token than the one that was drawn; else a step is the launch of a graph.
// What comes to the host is the token, and what it attends to in the layers that citations are made
// of.
//
// No step is launched before the host has seen the token of the step before: an answer that ends or
// is cancelled leaves nothing running, and what that could hide is some microseconds a token.
//
// Thread safety: owned by one thread at a time.
// Lifetime: the transformer and the pool must outlive it, and the pages of a step that step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/fusion/fusion_backend.h"
#include "kernels/device.h"
#include "model/cuda_decoder.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"
#include "model/sampler.h"

namespace intarsia::engine {

class DeviceDecoder {
 public:
  // Errors: those of kernels::UseDevice; kResourceExhausted.
  static Result<std::unique_ptr<DeviceDecoder>> Create(const model::CudaTransformer& transformer,
                                                       const model::DeviceKvPool& pages);
  // Waits for what is under way.
  ~DeviceDecoder();
  DeviceDecoder(const DeviceDecoder&) = delete;
  DeviceDecoder& operator=(const DeviceDecoder&) = delete;

  // As FusedRun::Step. REQUIRES: `kv` is of the pool and holds all keys before `position`, placed
  // by work that has been waited for.
  Result<FusedStep> Step(const model::DeviceKv& kv, int32_t token, int64_t position,
                         const model::Sampler& sampler, const CancelToken* cancel);

  // Ends the answer: waits until no step is under way. Errors: kInternal if the device has failed.
  Status Finish();

 private:
  // What the next step on the device runs.
  struct Next {
    const model::DeviceKv* kv = nullptr;
    int32_t token = 0;
    int64_t position = 0;
    kernels::SampleRule rule;
    bool operator==(const Next&) const = default;
  };

  explicit DeviceDecoder(kernels::DeviceStream stream) : stream_(std::move(stream)) {}

  kernels::DeviceStream stream_;  // before the decoder, whose memory is given back on it
  std::unique_ptr<model::CudaDecoder> decoder_;
  std::optional<Next> next_;  // empty where an answer begins
};

}  // namespace intarsia::engine
