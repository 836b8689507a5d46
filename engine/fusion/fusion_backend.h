// FusionBackend, FusedRun: where prompts are run and answers decoded, the CPU or a device.
//
// Everything above asks for a prompt to be run and then for one token after the other; what memory
// the keys lie in and what computes is the backend's matter. A token is drawn where its logits are,
// by the rule of kernels/sample_rows.h, which gives the same token everywhere.
//
// Thread safety: Prefill may be called concurrently; a FusedRun is owned by one thread.
// Lifetime: a FusedRun keeps alive what it needs of its backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/hash.h"
#include "base/result.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "engine/fusion/prompt.h"
#include "model/sampler.h"
#include "storage/kv_store.h"

namespace intarsia::engine {

// What one more token gives. Valid until the next step.
struct FusedStep {
  int32_t next_token = -1;  // drawn from the logits; the position numbers the draw
  // How much the token attends to each position up to its own: the sum over the layers from
  // FirstObservedLayer on of the mean over heads. Longer than that where the rest is 0.
  std::span<const float> attention;
};

// A prompt that was run, ready to be continued.
class FusedRun {
 public:
  virtual ~FusedRun() = default;
  // Runs `token` at `position`, behind all tokens so far or in place of one of those that were
  // added to the prompt; what stood behind it is forgotten. `cancel` may be null.
  // Errors: kInvalidArgument for a token outside the vocabulary or a position that has no room;
  // kCancelled; kResourceExhausted; kInternal if a device fails or the logits hold no finite
  // number.
  virtual Result<FusedStep> Step(int32_t token, int64_t position, const model::Sampler& sampler,
                                 const CancelToken* cancel) = 0;
};

class FusionBackend;

struct StartedRun : FusedPrompt {
  std::shared_ptr<FusionBackend> backend;  // of a device, which it keeps there; null on the CPU
  std::unique_ptr<FusedRun> run;
};

class FusionBackend {
 public:
  virtual ~FusionBackend() = default;

  // Runs the prompt. `num_new_tokens_max` more tokens can be added to it.
  // Errors: those of FusedPrefill; of a device also kUnsupported for a model or selector that it
  // has no kernels for, kResourceExhausted, and kInternal if it fails.
  virtual Result<StartedRun> Prefill(const Prompt& prompt, const FusionOptions& options,
                                     int64_t num_new_tokens_max, const CancelToken* cancel) = 0;

  // kInternal, with what happened, once the device has failed and this process can no longer use
  // it.
  virtual Status Health() const { return Status::Ok(); }

  // Computes the caches of runs of tokens, one a run, in one pass.
  // Errors: those of engine::BuildKv, and of a device as above. kUnsupported if it leaves that to
  // the CPU.
  virtual Result<std::vector<std::unique_ptr<MemoryKv>>> BuildCaches(const KvRuns& /*runs*/) {
    return Status(StatusCode::kUnsupported, "caches are computed on the CPU");
  }

  // What caches it keeps by itself, and how to make it forget those for which `is_gone` says so.
  virtual storage::KvMemoryStats cache_stats() const { return {}; }
  virtual void ForgetCaches(const std::function<bool(const Digest&)>& /*is_gone*/) {}
};

}  // namespace intarsia::engine
