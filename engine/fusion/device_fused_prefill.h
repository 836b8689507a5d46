// DeviceFusion: fused prefills on a device.
//
// The device's form of FusedPrefill, with the same options, the same choice of rows and the same
// count of tokens; bf16 throughout. A copying stream brings the caches of layer l + 1 while layer l
// is computed, one kernel per layer decodes, shifts, rotates and places them, and rows are ranked
// on the device. The host waits twice: for the rows that attention has chosen, and for the logits.
// What hides the load differs by what chooses:
//   attention  the question's pass reads its layers before a row is computed, so their load hides
//              under that pass alone; FusionOptions::question_depth says how many they are
//   stride     rows are known beforehand, so the load hides under their computation
//   caches that lie on the device (KvSource::DeviceLayer) are not loaded at all
//
// Thread safety: owned by one thread at a time; the loads have a thread of their own.
// Lifetime: the transformer, the pages and the threads must outlive it, and it the contexts that it
// returns.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/prompt.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::engine {

struct DeviceFusionOptions {
  // Pinned memory through which caches go that are read from files. Must hold one layer of the
  // largest cache.
  int64_t staging_bytes = int64_t{256} << 20;
};

struct DeviceFusionRequest {
  FusionOptions fusion = {};
  // More tokens that fit into the returned pages.
  int64_t num_new_tokens_max = 0;
  const CancelToken* cancel = nullptr;  // may be null; looked at once a layer
};

// Its times are of the device, but for total_ms. wait_ms is what the computing stream stood still
// for loads, and load_ms what the copying stream took for them.
struct DeviceFusedContext : FusedPrompt {
  std::unique_ptr<model::DeviceKv> kv;  // all prompt tokens placed, room for more
};

class DeviceFusion {
 public:
  // Memory for rows is allocated by the first prompt that needs it, and kept.
  // Errors: those of kernels::UseDevice; kResourceExhausted.
  static Result<std::unique_ptr<DeviceFusion>> Create(const model::CudaTransformer& transformer,
                                                      model::DeviceKvPool* pages,
                                                      ThreadPool* threads,
                                                      const DeviceFusionOptions& options);
  ~DeviceFusion();
  DeviceFusion(const DeviceFusion&) = delete;
  DeviceFusion& operator=(const DeviceFusion&) = delete;

  // Runs the prompt and waits for its logits.
  // Errors: kInvalidArgument for an unknown selector or an option out of range; kUnsupported for
  // the selector `deviation` in a model of one layer; kResourceExhausted if pages or memory do not
  // suffice, which leaves everything usable; kCancelled; kIo; kInternal if the device fails. A
  // cache that cannot be read is no error: its tokens are computed.
  Result<DeviceFusedContext> Prefill(const Prompt& prompt, const DeviceFusionRequest& request);

  // Where all work but the loads runs: what reads the pages of a context must follow on it.
  kernels::Stream stream() const;

 private:
  struct State;
  class Attempt;
  explicit DeviceFusion(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::engine
