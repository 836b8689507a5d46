#include "engine/fusion/cpu_backend.h"

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention_rows.h"

namespace intarsia::engine {
namespace {

// Adds up the attention of single rows.
class AttentionObserver : public model::LayerObserver {
 public:
  explicit AttentionObserver(const model::Transformer& transformer) : transformer_(transformer) {}

  Status OnKeysAndValues(const model::LayerRows&, std::vector<int32_t>*) override {
    return Status::Ok();
  }

  Status OnQueries(const model::LayerQueries& queries) override {
    const model::ModelConfig& config = transformer_.config();
    if (queries.layer < FirstObservedLayer(config.num_layers)) return Status::Ok();
    constexpr float kOne = 1.0f;
    return kernels::AttentionMass(
        {.rows = {.layer = queries.cache->layer(queries.layer),
                  .q = queries.q,
                  .positions = queries.positions.data(),
                  .num_rows = 1,
                  .num_heads = config.num_heads,
                  .scale = config.attention_scale,
                  .window = config.has_window(queries.layer) ? config.sliding_window : 0,
                  .logit_softcap = config.attention_logit_softcap},
         .weights = &kOne,
         .mass = mass_.data(),
         .num_keys = std::ssize(mass_)},
        transformer_.pool());
  }

  // For a row at `position`.
  void Clear(int64_t position) { mass_.assign(static_cast<size_t>(position + 1), 0.0f); }
  std::span<const float> mass() const { return mass_; }

 private:
  const model::Transformer& transformer_;
  std::vector<float> mass_;  // [position + 1]
};

class CpuRun : public FusedRun {
 public:
  CpuRun(std::shared_ptr<const model::Transformer> transformer,
         std::unique_ptr<model::KvCache> cache)
      : transformer_(std::move(transformer)), cache_(std::move(cache)), observer_(*transformer_) {}

  Result<FusedStep> Step(int32_t token, int64_t position, const model::Sampler& sampler,
                         const CancelToken* cancel) override {
    if (position < 0 || position >= cache_->capacity()) {
      return Status(StatusCode::kInvalidArgument,
                    "there is no room for a token at position " + std::to_string(position));
    }
    const auto at = static_cast<int32_t>(position);
    observer_.Clear(position);
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> logits,
                              transformer_->Forward({.tokens = {&token, 1},
                                                     .positions = {&at, 1},
                                                     .observer = &observer_,
                                                     .cancel = cancel},
                                                    cache_.get()));
    INTARSIA_ASSIGN_OR_RETURN(const int32_t next_token, sampler.Next(logits, position));
    return FusedStep{.next_token = next_token, .attention = observer_.mass()};
  }

 private:
  const std::shared_ptr<const model::Transformer> transformer_;
  const std::unique_ptr<model::KvCache> cache_;
  AttentionObserver observer_;
};

}  // namespace

Result<StartedRun> CpuBackend::Prefill(const Prompt& prompt, const FusionOptions& options,
                                       int64_t num_new_tokens_max, const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(FusedContext context, FusedPrefill(*transformer_, prompt, options,
                                                               num_new_tokens_max, cancel));
  StartedRun started;
  started.run = std::make_unique<CpuRun>(transformer_, std::move(context.cache));
  static_cast<FusedPrompt&>(started) = std::move(context);
  return started;
}

}  // namespace intarsia::engine
