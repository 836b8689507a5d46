#include "engine/fusion/fused_prefill.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/stopwatch.h"
#include "engine/fusion/fusion_plan.h"
#include "engine/fusion/layer_loader.h"
#include "engine/fusion/layer_placer.h"
#include "engine/fusion/lost_caches.h"
#include "kernels/attention_rows.h"

namespace intarsia::engine {
namespace {

// One attempt with the caches that the prompt names.
class Attempt {
 public:
  Attempt(const model::Transformer& transformer, const Prompt& prompt, const FusionOptions& options,
          const RowSelector& selector, const CancelToken* cancel)
      : transformer_(transformer),
        prompt_(prompt),
        options_(options),
        selector_(selector),
        cancel_(cancel),
        plan_(MakeFusionPlan(prompt, options, selector)) {}

  Status Run(int64_t num_new_tokens_max, FusedContext* context);

  std::optional<size_t> failed_segment() const {
    return loader_ == nullptr ? std::nullopt : loader_->failed_segment();
  }

 private:
  // Looks at the cached keys with the question's eyes.
  class QuestionObserver;
  // Computes the rows over placed, and perhaps shifted, caches.
  class RowsObserver;

  // How many layers the question passes.
  int32_t num_question_layers() const {
    return NumQuestionLayers(options_, transformer_.config().num_layers);
  }
  Status ScoreByAttention(std::vector<float>* scores);
  Result<std::vector<int32_t>> Select(std::span<const float> scores) const;
  Status PreparePropagation(std::span<const int32_t> rows);

  const model::Transformer& transformer_;
  const Prompt& prompt_;
  const FusionOptions& options_;
  const RowSelector& selector_;
  const CancelToken* const cancel_;
  const FusionPlan plan_;

  std::unique_ptr<model::KvCache> cache_;
  std::unique_ptr<LayerLoader> loader_;
  std::unique_ptr<LayerPlacer> placer_;
  int32_t num_placed_layers_ = 0;  // by the question's pass, as cached
  std::vector<int32_t> probes_;    // that the question's pass computes
  std::vector<int32_t> kept_;      // of them, what is not computed again
  std::vector<int32_t> rows_;
  std::optional<Propagation> propagation_;  // of the pass at hand
  FusionTiming timing_;
};

class Attempt::QuestionObserver : public model::LayerObserver {
 public:
  QuestionObserver(Attempt* attempt, std::vector<float>* scores)
      : attempt_(*attempt), scores_(*scores) {
    // The last row once by itself and once in the mean of the question's rows; rows of missed
    // chunks are computed here too, but do not ask.
    const int64_t num_rows = std::ssize(attempt_.probes_) + std::ssize(attempt_.plan_.fresh);
    const int64_t num_question = attempt_.prompt_.num_tokens() - attempt_.prompt_.question_begin();
    weights_.resize(static_cast<size_t>(num_rows));
    std::fill(weights_.end() - num_question, weights_.end(),
              1.0f / static_cast<float>(num_question));
    weights_.back() += 1.0f;
  }

  Status OnKeysAndValues(const model::LayerRows& rows, std::vector<int32_t>*) override {
    INTARSIA_RETURN_IF_ERROR(attempt_.loader_->Load(rows.layer));
    const Propagation* propagation = nullptr;
    LayerShift shift;
    if (attempt_.propagation_.has_value() && rows.layer > 0) {
      propagation = &*attempt_.propagation_;
      INTARSIA_ASSIGN_OR_RETURN(shift, attempt_.placer_->Measure(*propagation, rows));
    }
    INTARSIA_RETURN_IF_ERROR(
        attempt_.placer_->Place(rows.layer, LayerPlacer::Scope::kAll, propagation, &shift));
    if (propagation != nullptr && !attempt_.kept_.empty()) {
      attempt_.placer_->Keep(rows.layer, *propagation, std::move(shift));
    }
    return Status::Ok();
  }

  Status OnQueries(const model::LayerQueries& queries) override {
    const model::ModelConfig& config = attempt_.transformer_.config();
    if (queries.layer < FirstRankingLayer(attempt_.num_question_layers())) return Status::Ok();
    const auto num_rows = static_cast<int64_t>(queries.positions.size());
    return kernels::AttentionMass(
        {.rows = {.layer = attempt_.cache_->layer(queries.layer),
                  .q = queries.q,
                  .positions = queries.positions.data(),
                  .num_rows = num_rows,
                  .num_heads = config.num_heads,
                  .scale = config.attention_scale,
                  .window = config.has_window(queries.layer) ? config.sliding_window : 0,
                  .logit_softcap = config.attention_logit_softcap},
         .weights = weights_.data(),
         .mass = scores_.data(),
         .num_keys = std::ssize(scores_)},
        attempt_.transformer_.pool());
  }

 private:
  Attempt& attempt_;
  std::vector<float>& scores_;
  std::vector<float> weights_;
};

class Attempt::RowsObserver : public model::LayerObserver {
 public:
  explicit RowsObserver(Attempt* attempt) : attempt_(*attempt) {}

  Status OnKeysAndValues(const model::LayerRows& rows, std::vector<int32_t>* kept) override {
    const bool is_choosing = attempt_.selector_.score_kind() == ScoreKind::kDeviation;
    const bool is_placed = rows.layer < attempt_.num_placed_layers_;
    if (!is_placed) INTARSIA_RETURN_IF_ERROR(attempt_.loader_->Load(rows.layer));
    // Layer 0 sees no context, so nothing shifts there; while a selector by deviation chooses, all
    // rows are new.
    const int32_t first_shifted = is_choosing ? kDeviationLayer + 1 : 1;
    const Propagation* propagation = nullptr;
    LayerShift shift;
    if (attempt_.propagation_.has_value() && rows.layer >= first_shifted) {
      propagation = &*attempt_.propagation_;
      INTARSIA_ASSIGN_OR_RETURN(shift, attempt_.placer_->Measure(*propagation, rows));
    }
    if (!is_placed || propagation != nullptr) {
      const auto scope = is_placed ? LayerPlacer::Scope::kShifted : LayerPlacer::Scope::kAll;
      INTARSIA_RETURN_IF_ERROR(attempt_.placer_->Place(rows.layer, scope, propagation, &shift));
    }
    if (is_choosing && rows.layer == kDeviationLayer) return Choose(rows, kept);
    return Status::Ok();
  }

  Status OnQueries(const model::LayerQueries&) override { return Status::Ok(); }

 private:
  Status Choose(const model::LayerRows& rows, std::vector<int32_t>* kept) {
    INTARSIA_ASSIGN_OR_RETURN(attempt_.rows_,
                              attempt_.Select(attempt_.placer_->ValueDeviation(rows.layer, rows)));
    INTARSIA_RETURN_IF_ERROR(attempt_.PreparePropagation(attempt_.rows_));
    const std::vector<int32_t> going_on = MergePositions(attempt_.rows_, attempt_.plan_.fresh);
    for (size_t row = 0; row < rows.positions.size(); ++row) {
      if (std::ranges::binary_search(going_on, rows.positions[row])) {
        kept->push_back(static_cast<int32_t>(row));
      }
    }
    return Status::Ok();
  }

  Attempt& attempt_;
};

Status Attempt::ScoreByAttention(std::vector<float>* scores) {
  const Stopwatch stopwatch;
  scores->assign(static_cast<size_t>(prompt_.num_tokens()), 0.0f);
  if (options_.probes != ProbePass::kWithRows && options_.propagate != PropagationMode::kOff) {
    probes_ = plan_.probes;
    INTARSIA_RETURN_IF_ERROR(PreparePropagation(probes_));
  }
  if (IsKeepingProbes(options_, transformer_.config().num_layers)) kept_ = probes_;
  QuestionObserver observer(this, scores);
  const std::vector<int32_t> positions = MergePositions(probes_, plan_.fresh);
  const std::vector<int32_t> tokens = TokensAt(prompt_, positions);
  INTARSIA_RETURN_IF_ERROR(transformer_
                               .Forward({.tokens = tokens,
                                         .positions = positions,
                                         .num_logit_rows = 0,
                                         .num_layers = num_question_layers(),
                                         .observer = &observer,
                                         .cancel = cancel_},
                                        cache_.get())
                               .status());
  propagation_.reset();
  num_placed_layers_ = num_question_layers();
  timing_.question_ms = stopwatch.milliseconds();
  return Status::Ok();
}

Result<std::vector<int32_t>> Attempt::Select(std::span<const float> scores) const {
  return selector_.Select({.prompt = &prompt_,
                           .candidates = plan_.candidates,
                           .budget = plan_.budget,
                           .scores = scores,
                           .probes = plan_.probes,
                           .taken = kept_,
                           .pool = transformer_.pool()});
}

Status Attempt::PreparePropagation(std::span<const int32_t> rows) {
  if (!plan_.is_propagating(options_.propagate, rows.size())) return Status::Ok();
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(
      propagation_, Propagation::Create(prompt_, rows, options_.propagate, transformer_.pool()));
  timing_.solve_ms += stopwatch.milliseconds();
  return Status::Ok();
}

Status Attempt::Run(int64_t num_new_tokens_max, FusedContext* context) {
  const Stopwatch total;
  INTARSIA_ASSIGN_OR_RETURN(cache_,
                            model::KvCache::Create(transformer_.config(), transformer_.kv_type(),
                                                   prompt_.num_tokens() + num_new_tokens_max,
                                                   transformer_.memory_pool()));
  INTARSIA_ASSIGN_OR_RETURN(loader_, LayerLoader::Create(prompt_, transformer_));
  INTARSIA_ASSIGN_OR_RETURN(placer_,
                            LayerPlacer::Create(prompt_, *loader_, transformer_, cache_.get()));
  std::vector<int32_t> positions;
  const bool is_choice = plan_.is_choice();
  if (is_choice && selector_.score_kind() == ScoreKind::kDeviation) {
    positions = MergePositions(plan_.candidates, plan_.fresh);  // RowsObserver chooses on the way
  } else {
    std::vector<float> scores;
    if (is_choice && selector_.score_kind() == ScoreKind::kAttention) {
      INTARSIA_RETURN_IF_ERROR(ScoreByAttention(&scores));
    }
    if (is_choice || selector_.score_kind() == ScoreKind::kNone) {
      INTARSIA_ASSIGN_OR_RETURN(rows_, Select(scores));
    } else if (plan_.budget > 0) {
      rows_ = plan_.candidates;
    }
    INTARSIA_RETURN_IF_ERROR(PreparePropagation(rows_));
    positions = MergePositions(WithoutPositions(rows_, kept_), plan_.fresh);
  }
  const Stopwatch rows_pass;
  RowsObserver observer(this);
  const std::vector<int32_t> tokens = TokensAt(prompt_, positions);
  INTARSIA_ASSIGN_OR_RETURN(
      context->logits,
      transformer_.Forward(
          {.tokens = tokens, .positions = positions, .observer = &observer, .cancel = cancel_},
          cache_.get()));
  timing_.rows_ms = rows_pass.milliseconds();
  timing_.load_ms = 1e3 * loader_->load_seconds();
  timing_.wait_ms = 1e3 * loader_->wait_seconds();
  timing_.total_ms = total.milliseconds();
  context->usage = CountTokens(prompt_, plan_, rows_.size());
  context->timing = timing_;
  context->rows = std::move(rows_);
  context->cache = std::move(cache_);
  return Status::Ok();
}

}  // namespace

Result<FusedContext> FusedPrefill(const model::Transformer& transformer, const Prompt& prompt,
                                  const FusionOptions& options, int64_t num_new_tokens_max,
                                  const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<RowSelector> selector,
                            MakeFusionSelector(options));
  FusedContext context;
  const auto fuse = [&](const Prompt& current) {
    Attempt attempt(transformer, current, options, *selector, cancel);
    Status status = attempt.Run(num_new_tokens_max, &context);
    return FusionTry{std::move(status), attempt.failed_segment()};
  };
  INTARSIA_RETURN_IF_ERROR(FuseWithoutLostCaches(prompt, fuse, &context.lost_segments));
  return context;
}

}  // namespace intarsia::engine
