#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/stopwatch.h"
#include "engine/fusion/device_fused_prefill.h"
#include "engine/fusion/device_loader.h"
#include "engine/fusion/device_placer.h"
#include "engine/fusion/device_span.h"
#include "engine/fusion/device_tables.h"
#include "engine/fusion/fusion_plan.h"
#include "engine/fusion/lost_caches.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/select_rows.h"
#include "model/cuda_forward.h"

namespace intarsia::engine {
namespace {

// A pass has working memory for a multiple of so many rows, so that prompts of like size share it.
constexpr int64_t kRowsStep = 512;

}  // namespace

struct DeviceFusion::State {
  State(const model::CudaTransformer& used_transformer, model::DeviceKvPool* used_pages,
        ThreadPool* used_threads, const DeviceFusionOptions& options,
        kernels::DeviceStream compute_stream, kernels::DeviceStream copy_stream,
        kernels::DeviceStream placing_stream, kernels::DeviceStream solving_stream)
      : transformer(used_transformer),
        pages(used_pages),
        threads(used_threads),
        compute(std::move(compute_stream)),
        copy(std::move(copy_stream)),
        placing(std::move(placing_stream)),
        solving(std::move(solving_stream)),
        load_reserve(options.staging_bytes) {}

  // A forward pass with room for `num_rows` rows.
  Result<model::CudaForward*> Forward(int64_t num_rows) {
    if (forward == nullptr || num_rows > num_rows_max) {
      forward.reset();
      const int64_t wanted = (num_rows + kRowsStep - 1) / kRowsStep * kRowsStep;
      INTARSIA_ASSIGN_OR_RETURN(forward, model::CudaForward::Create(
                                             transformer, {.num_rows_max = wanted}, compute.get()));
      num_rows_max = wanted;
    }
    return forward.get();
  }

  const model::CudaTransformer& transformer;
  model::DeviceKvPool* const pages;
  ThreadPool* const threads;
  // The streams come first: memory is given back on them.
  kernels::DeviceStream compute;
  kernels::DeviceStream copy;
  kernels::DeviceStream placing;  // of layers ahead of their computation
  kernels::DeviceStream solving;  // for weights, beside a pass's first layer
  LoadReserve load_reserve;
  PinnedArena arena;  // of the attempt at hand
  std::unique_ptr<model::CudaForward> forward;
  int64_t num_rows_max = 0;
};

// One attempt with the caches that the prompt names.
class DeviceFusion::Attempt {
 public:
  Attempt(State* state, const Prompt& prompt, const DeviceFusionRequest& request,
          const RowSelector& selector)
      : state_(*state),
        config_(state->transformer.config()),
        prompt_(prompt),
        request_(request),
        selector_(selector),
        plan_(MakeFusionPlan(prompt, request.fusion, selector)) {}
  ~Attempt() {
    // What is given back on the computing stream must not be written by the other one any more.
    if (placed_ahead_.has_value()) placed_ahead_->HoldBack(stream()).IgnoreError();
  }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  Status Run(DeviceFusedContext* context);

  std::optional<size_t> failed_segment() const {
    return loader_ == nullptr ? std::nullopt : loader_->failed_segment();
  }

 private:
  kernels::Stream stream() const { return state_.compute.get(); }
  int64_t num_question_rows() const { return prompt_.num_tokens() - prompt_.question_begin(); }

  // Loads, places and computes the first `num_layers` layers. With scores, the question is asked
  // what it looks at, and the last layer ends there.
  Status RunLayers(int32_t num_layers, bool is_asking);
  // Everything up to a layer's attention, but for the first one's products, which BeginPass has
  // made.
  Status PrepareLayer(int32_t layer);
  // Attention and what is behind it.
  Status FinishLayer(int32_t layer);
  // Places the cached tokens of a layer, which no row shifts, beside the computation of the layers
  // before it.
  Status PlaceAhead(int32_t layer);
  // Begins a pass and its first layer, all of it if that layer's caches lie in the pages.
  Status BeginPass(std::span<const int32_t> positions, std::span<const int32_t> rows,
                   DevicePlacer::Rows kind);
  // Says which tokens the pass computes from here on, and whose shift is passed on.
  Status BeginPlacing(std::span<const int32_t> positions, std::span<const int32_t> rows,
                      DevicePlacer::Rows kind);
  bool is_choosing_by_deviation() const {
    return plan_.is_choice() && selector_.score_kind() == ScoreKind::kDeviation;
  }
  // The first layers with all candidates, of which those go on whose V deviates most.
  Status RunDeviationLayers();
  Status KeepMostDeviating(std::span<const int32_t> positions);
  Status ClearScores();
  Status AskQuestion();
  Status Score(int32_t layer, const float* lse);
  Status SelectByScores();
  Status SelectOnHost();
  Result<std::vector<int32_t>> Select(std::span<const float> scores) const;
  Status ChooseRows();
  Status Measure(FusionTiming* timing) const;

  State& state_;
  const model::ModelConfig& config_;
  const Prompt& prompt_;
  const DeviceFusionRequest& request_;
  const RowSelector& selector_;
  const FusionPlan plan_;

  std::unique_ptr<model::DeviceKv> kv_;
  std::unique_ptr<DeviceLoader> loader_;
  std::unique_ptr<DevicePlacer> placer_;
  model::CudaForward* forward_ = nullptr;
  int32_t num_placed_layers_ = 0;                     // whose caches lie in the pages
  int32_t num_layers_ahead_ = 0;                      // of which the other stream takes care
  std::optional<kernels::DeviceEvent> placed_ahead_;  // the last of them
  int32_t num_passed_layers_ = 0;                     // that the pass at hand has been through
  std::vector<int32_t> probes_;                       // that the question's pass computes
  std::vector<int32_t> kept_;                         // of them, what is not computed again
  std::vector<int32_t> rows_;

  kernels::DeviceBuffer scores_;  // [num_tokens]
  kernels::DeviceBuffer score_workspace_;
  kernels::DeviceBuffer lse_;  // [rows of the question's pass, num_heads]
  DeviceTables question_;      // weights of its rows
  DeviceTables::Offset question_weights_at_ = 0;
  DeviceSpan question_span_;
  DeviceSpan rows_span_;
};

Status DeviceFusion::Attempt::BeginPass(std::span<const int32_t> positions,
                                        std::span<const int32_t> rows, DevicePlacer::Rows kind) {
  INTARSIA_ASSIGN_OR_RETURN(forward_, state_.Forward(std::ssize(positions)));
  INTARSIA_RETURN_IF_ERROR(forward_->Begin(TokensAt(prompt_, positions), positions, *kv_));
  // Before tables are made, so that the device is not idle: products need no caches, and where
  // those are placed, the first layer needs nothing else, for nothing shifts there.
  INTARSIA_RETURN_IF_ERROR(forward_->ComputeQkv(0));
  if (num_placed_layers_ > 0) {
    INTARSIA_RETURN_IF_ERROR(forward_->PlaceKv(0));
    INTARSIA_RETURN_IF_ERROR(FinishLayer(0));
    num_passed_layers_ = 1;
  }
  return BeginPlacing(positions, rows, kind);
}

Status DeviceFusion::Attempt::BeginPlacing(std::span<const int32_t> positions,
                                           std::span<const int32_t> rows, DevicePlacer::Rows kind) {
  const PropagationMode mode = plan_.is_propagating(request_.fusion.propagate, rows.size())
                                   ? request_.fusion.propagate
                                   : PropagationMode::kOff;
  return placer_->BeginPass(positions, rows, mode, kind);
}

Status DeviceFusion::Attempt::PrepareLayer(int32_t layer) {
  if (layer > 0) INTARSIA_RETURN_IF_ERROR(forward_->ComputeQkv(layer));
  const bool is_placed = layer < num_placed_layers_;
  if (!is_placed) INTARSIA_RETURN_IF_ERROR(loader_->HoldBack(layer));
  INTARSIA_RETURN_IF_ERROR(forward_->PlaceKv(layer));  // first, for the shift is measured beside it
  // Layer 0 sees no context, so nothing shifts there.
  const bool is_shifting = placer_->is_shifting() && layer > 0;
  const bool is_ahead = layer < num_layers_ahead_;
  if ((is_placed || is_ahead) && !is_shifting) return Status::Ok();
  const auto scope = is_placed ? DevicePlacer::Scope::kShifted : DevicePlacer::Scope::kAll;
  const model::CudaRows rows = forward_->rows();
  return placer_->Place(layer, scope, state_.transformer.rope_digits(layer),
                        is_shifting ? &rows : nullptr);
}

Status DeviceFusion::Attempt::FinishLayer(int32_t layer) {
  // Nobody reads what the last layer makes of rows without logits.
  if (layer + 1 == config_.num_layers) INTARSIA_RETURN_IF_ERROR(forward_->KeepLastRows(1));
  INTARSIA_RETURN_IF_ERROR(forward_->Attend(layer));
  return forward_->RunFfn(layer);
}

Status DeviceFusion::Attempt::PlaceAhead(int32_t layer) {
  const kernels::Stream placing = state_.placing.get();
  if (!placed_ahead_.has_value()) {
    INTARSIA_ASSIGN_OR_RETURN(placed_ahead_,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    // Pages and tables are there where the computing stream is now.
    INTARSIA_RETURN_IF_ERROR(placed_ahead_->Record(stream()));
    INTARSIA_RETURN_IF_ERROR(placed_ahead_->HoldBack(placing));
  }
  INTARSIA_RETURN_IF_ERROR(loader_->HoldBackPlacing(layer, placing));
  INTARSIA_RETURN_IF_ERROR(
      placer_->PlaceAhead(layer, state_.transformer.rope_digits(layer), placing));
  INTARSIA_RETURN_IF_ERROR(loader_->MarkPlaced(layer, placing));
  num_layers_ahead_ = layer + 1;
  return placed_ahead_->Record(placing);
}

Status DeviceFusion::Attempt::RunLayers(int32_t num_layers, bool is_asking) {
  const bool is_placing_ahead = is_asking && !placer_->is_shifting();
  if (is_placing_ahead) INTARSIA_RETURN_IF_ERROR(PlaceAhead(0));
  for (int32_t layer = num_passed_layers_; layer < num_layers; ++layer) {
    if (request_.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(request_.cancel->Check());
    INTARSIA_RETURN_IF_ERROR(PrepareLayer(layer));
    const bool is_scored = is_asking && layer >= FirstRankingLayer(num_layers);
    if (is_asking && layer + 1 == num_layers) {
      INTARSIA_RETURN_IF_ERROR(Score(layer, /*lse=*/nullptr));
      break;
    }
    if (is_scored) {
      float* const lse = lse_.as<float>();
      INTARSIA_RETURN_IF_ERROR(forward_->Attend(layer, lse));
      INTARSIA_RETURN_IF_ERROR(Score(layer, lse));
      INTARSIA_RETURN_IF_ERROR(forward_->RunFfn(layer));
    } else {
      INTARSIA_RETURN_IF_ERROR(FinishLayer(layer));
    }
    // Behind the layer at hand, because this waits for reads from a file.
    if (is_placing_ahead && layer + 1 < num_layers) {
      INTARSIA_RETURN_IF_ERROR(PlaceAhead(layer + 1));
    }
  }
  num_placed_layers_ = std::max(num_placed_layers_, num_layers);
  return Status::Ok();
}

Status DeviceFusion::Attempt::RunDeviationLayers() {
  const std::vector<int32_t> positions = MergePositions(plan_.candidates, plan_.fresh);
  INTARSIA_RETURN_IF_ERROR(BeginPass(positions, {}, DevicePlacer::Rows::kOfThisPass));
  for (int32_t layer = 0; layer <= kDeviationLayer; ++layer) {
    if (request_.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(request_.cancel->Check());
    INTARSIA_RETURN_IF_ERROR(PrepareLayer(layer));
    if (layer == kDeviationLayer) INTARSIA_RETURN_IF_ERROR(KeepMostDeviating(positions));
    INTARSIA_RETURN_IF_ERROR(FinishLayer(layer));
  }
  num_placed_layers_ = num_passed_layers_ = kDeviationLayer + 1;
  return Status::Ok();
}

Status DeviceFusion::Attempt::KeepMostDeviating(std::span<const int32_t> positions) {
  INTARSIA_RETURN_IF_ERROR(ClearScores());
  INTARSIA_RETURN_IF_ERROR(
      placer_->MeasureDeviation(kDeviationLayer, positions, forward_->rows(), scores_.as<float>()));
  INTARSIA_RETURN_IF_ERROR(SelectByScores());
  const std::vector<int32_t> going_on = MergePositions(rows_, plan_.fresh);
  std::vector<int32_t> kept;
  for (size_t row = 0; row < positions.size(); ++row) {
    if (std::ranges::binary_search(going_on, positions[row])) {
      kept.push_back(static_cast<int32_t>(row));
    }
  }
  DeviceTables tables;
  const auto kept_at = tables.Add<int32_t>(kept);
  INTARSIA_RETURN_IF_ERROR(tables.Upload(&state_.arena, stream()));
  INTARSIA_RETURN_IF_ERROR(forward_->KeepRows(tables.At<int32_t>(kept_at), std::ssize(kept)));
  return BeginPlacing(going_on, rows_, DevicePlacer::Rows::kOfThisPass);
}

// Adds what the question's rows, the last of the pass, look at in this layer. `lse` is that of all
// rows, or null where the layer's attention is not computed otherwise.
Status DeviceFusion::Attempt::Score(int32_t layer, const float* lse) {
  const model::CudaRows rows = forward_->rows();
  INTARSIA_CHECK(rows.q_stride == config_.q_size());
  for (int64_t begin = 0; begin < num_question_rows(); begin += kernels::kMassRowsMax) {
    const int64_t first = rows.num_rows - num_question_rows() + begin;
    kernels::AttentionMassCudaParams params = {
        .rows = {.layer = kv_->layer(layer),
                 .q = rows.q + first * rows.q_stride,
                 .positions = rows.positions + first,
                 .num_rows = std::min(kernels::kMassRowsMax, num_question_rows() - begin),
                 .max_position = prompt_.num_tokens() - 1,
                 .num_heads = config_.num_heads,
                 .scale = config_.attention_scale,
                 .window = config_.has_window(layer) ? config_.sliding_window : 0,
                 .logit_softcap = config_.attention_logit_softcap},
        .weights = question_.At<float>(question_weights_at_) + begin,
        .lse = lse == nullptr ? nullptr : lse + first * config_.num_heads,
        .mass = scores_.as<float>(),
        .num_keys = prompt_.num_tokens()};
    INTARSIA_ASSIGN_OR_RETURN(const int64_t num_bytes,
                              kernels::AttentionMassWorkspaceBytes(params));
    if (num_bytes > score_workspace_.num_bytes()) {
      INTARSIA_ASSIGN_OR_RETURN(score_workspace_,
                                kernels::DeviceBuffer::Allocate(num_bytes, stream()));
    }
    params.rows.workspace = score_workspace_.data();
    params.rows.workspace_bytes = score_workspace_.num_bytes();
    INTARSIA_RETURN_IF_ERROR(kernels::AttentionMassCuda(params, stream()));
  }
  return Status::Ok();
}

Status DeviceFusion::Attempt::ClearScores() {
  const int64_t num_bytes = prompt_.num_tokens() * static_cast<int64_t>(sizeof(float));
  INTARSIA_ASSIGN_OR_RETURN(scores_, kernels::DeviceBuffer::Allocate(num_bytes, stream()));
  return kernels::FillDevice(scores_.data(), 0, num_bytes, stream());
}

Status DeviceFusion::Attempt::AskQuestion() {
  INTARSIA_RETURN_IF_ERROR(question_span_.Begin(stream()));
  INTARSIA_RETURN_IF_ERROR(ClearScores());
  // The last row once by itself and once in the mean of the question's rows.
  std::vector<float> weights(static_cast<size_t>(num_question_rows()),
                             1.0f / static_cast<float>(num_question_rows()));
  weights.back() += 1.0f;
  question_weights_at_ = question_.Add<float>(weights);
  INTARSIA_RETURN_IF_ERROR(question_.Upload(&state_.arena, stream()));
  const int32_t num_layers = NumQuestionLayers(request_.fusion, config_.num_layers);
  if (request_.fusion.probes != ProbePass::kWithRows &&
      request_.fusion.propagate != PropagationMode::kOff) {
    probes_ = plan_.probes;
  }
  const std::vector<int32_t> positions = MergePositions(probes_, plan_.fresh);
  INTARSIA_ASSIGN_OR_RETURN(
      lse_, kernels::DeviceBuffer::Allocate(
                std::ssize(positions) * config_.num_heads * static_cast<int64_t>(sizeof(float)),
                stream()));
  if (IsKeepingProbes(request_.fusion, config_.num_layers)) kept_ = probes_;
  INTARSIA_RETURN_IF_ERROR(
      BeginPass(positions, probes_,
                kept_.empty() ? DevicePlacer::Rows::kOfThisPass : DevicePlacer::Rows::kKept));
  INTARSIA_RETURN_IF_ERROR(RunLayers(num_layers, /*is_asking=*/true));
  INTARSIA_RETURN_IF_ERROR(SelectByScores());
  return question_span_.End(stream());
}

Status DeviceFusion::Attempt::SelectByScores() {
  if (selector_.name() == "design") return SelectOnHost();
  std::vector<uint8_t> is_taken;
  for (const int32_t candidate : plan_.candidates) {
    is_taken.push_back(std::ranges::binary_search(plan_.probes, candidate) ? 1 : 0);
  }
  DeviceTables tables;
  const auto candidates_at = tables.Add<int32_t>(plan_.candidates);
  const auto is_taken_at = tables.Add<uint8_t>(is_taken);
  INTARSIA_RETURN_IF_ERROR(tables.Upload(&state_.arena, stream()));
  rows_.resize(static_cast<size_t>(plan_.budget));
  const int64_t num_bytes = plan_.budget * static_cast<int64_t>(sizeof(int32_t));
  INTARSIA_ASSIGN_OR_RETURN(const kernels::DeviceBuffer rows,
                            kernels::DeviceBuffer::Allocate(num_bytes, stream()));
  // By way of pinned memory, which the device writes without the driver's help.
  INTARSIA_ASSIGN_OR_RETURN(uint8_t* const staged, state_.arena.Take(num_bytes));
  INTARSIA_RETURN_IF_ERROR(kernels::SelectRowsCuda(
      {.scores = scores_.as<float>(),
       .candidates = tables.At<int32_t>(candidates_at),
       .is_taken = tables.At<uint8_t>(is_taken_at),
       .rows = rows.as<int32_t>(),
       .num_candidates = static_cast<int32_t>(plan_.candidates.size()),
       .count = static_cast<int32_t>(plan_.budget - std::ssize(plan_.probes))},
      stream()));
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(staged, rows.data(), num_bytes, stream()));
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream()));
  std::memcpy(rows_.data(), staged, static_cast<size_t>(num_bytes));
  return Status::Ok();
}

// For selectors that do more than rank: the scores come to them.
Status DeviceFusion::Attempt::SelectOnHost() {
  std::vector<float> scores(static_cast<size_t>(prompt_.num_tokens()));
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(scores.data(), scores_.data(),
                                               static_cast<int64_t>(scores.size() * sizeof(float)),
                                               stream()));
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream()));
  INTARSIA_ASSIGN_OR_RETURN(rows_, Select(scores));
  return Status::Ok();
}

Result<std::vector<int32_t>> DeviceFusion::Attempt::Select(std::span<const float> scores) const {
  return selector_.Select({.prompt = &prompt_,
                           .candidates = plan_.candidates,
                           .budget = plan_.budget,
                           .scores = scores,
                           .probes = plan_.probes,
                           .taken = kept_,
                           .pool = state_.threads});
}

Status DeviceFusion::Attempt::ChooseRows() {
  if (plan_.is_choice() && selector_.score_kind() == ScoreKind::kAttention) return AskQuestion();
  if (is_choosing_by_deviation()) return Status::Ok();  // on the way
  if (plan_.is_choice() || selector_.score_kind() == ScoreKind::kNone) {
    INTARSIA_ASSIGN_OR_RETURN(rows_, Select({}));
  } else if (plan_.budget > 0) {
    rows_ = plan_.candidates;
  }
  return Status::Ok();
}

Status DeviceFusion::Attempt::Measure(FusionTiming* timing) const {
  INTARSIA_ASSIGN_OR_RETURN(timing->load_ms, loader_->LoadMilliseconds());
  INTARSIA_ASSIGN_OR_RETURN(timing->wait_ms, loader_->WaitMilliseconds());
  timing->read_bytes = loader_->bytes().read;
  timing->pinned_bytes = loader_->bytes().pinned;
  timing->device_bytes = loader_->bytes().on_device;
  INTARSIA_ASSIGN_OR_RETURN(timing->question_ms, question_span_.Milliseconds());
  INTARSIA_ASSIGN_OR_RETURN(timing->solve_ms, placer_->SolveMilliseconds());
  INTARSIA_ASSIGN_OR_RETURN(timing->rows_ms, rows_span_.Milliseconds());
  return Status::Ok();
}

Status DeviceFusion::Attempt::Run(DeviceFusedContext* context) {
  const Stopwatch total;
  INTARSIA_ASSIGN_OR_RETURN(
      kv_, state_.pages->Allocate(prompt_.num_tokens() + request_.num_new_tokens_max, stream()));
  INTARSIA_ASSIGN_OR_RETURN(loader_,
                            DeviceLoader::Start(prompt_, config_.num_layers, config_.kv_size(),
                                                {.device = state_.transformer.device(),
                                                 .compute = stream(),
                                                 .copy = state_.copy.get(),
                                                 .arena = &state_.arena},
                                                &state_.load_reserve));
  INTARSIA_ASSIGN_OR_RETURN(placer_, DevicePlacer::Create(prompt_, *loader_,
                                                          {.kv = kv_.get(),
                                                           .kv_size = config_.kv_size(),
                                                           .num_layers = config_.num_layers,
                                                           .stream = stream(),
                                                           .solving = state_.solving.get(),
                                                           .arena = &state_.arena}));
  INTARSIA_RETURN_IF_ERROR(ChooseRows());
  INTARSIA_RETURN_IF_ERROR(rows_span_.Begin(stream()));
  if (is_choosing_by_deviation()) {
    INTARSIA_RETURN_IF_ERROR(RunDeviationLayers());
  } else {
    INTARSIA_RETURN_IF_ERROR(BeginPass(MergePositions(WithoutPositions(rows_, kept_), plan_.fresh),
                                       rows_, DevicePlacer::Rows::kOfThisPass));
  }
  INTARSIA_RETURN_IF_ERROR(RunLayers(config_.num_layers, /*is_asking=*/false));
  INTARSIA_RETURN_IF_ERROR(forward_->ComputeLogits(1));
  INTARSIA_RETURN_IF_ERROR(rows_span_.End(stream()));
  const auto num_logit_bytes = config_.vocab_size * static_cast<int64_t>(sizeof(float));
  INTARSIA_ASSIGN_OR_RETURN(uint8_t* const staged, state_.arena.Take(num_logit_bytes));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToHost(staged, forward_->logits(), num_logit_bytes, stream()));
  context->logits.resize(static_cast<size_t>(config_.vocab_size));
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream()));
  std::memcpy(context->logits.data(), staged, static_cast<size_t>(num_logit_bytes));
  INTARSIA_RETURN_IF_ERROR(Measure(&context->timing));
  context->timing.total_ms = total.milliseconds();
  context->usage = CountTokens(prompt_, plan_, rows_.size());
  context->rows = std::move(rows_);
  context->kv = std::move(kv_);
  return Status::Ok();
}

DeviceFusion::DeviceFusion(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceFusion::~DeviceFusion() = default;

kernels::Stream DeviceFusion::stream() const { return state_->compute.get(); }

Result<std::unique_ptr<DeviceFusion>> DeviceFusion::Create(
    const model::CudaTransformer& transformer, model::DeviceKvPool* pages, ThreadPool* threads,
    const DeviceFusionOptions& options) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream compute,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kHigh));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream copy,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream placing,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  // The second layer waits for it, and beside large products it would get no multiprocessor.
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream solving,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kHigh));
  auto state = std::make_unique<State>(transformer, pages, threads, options, std::move(compute),
                                       std::move(copy), std::move(placing), std::move(solving));
  return std::unique_ptr<DeviceFusion>(new DeviceFusion(std::move(state)));
}

Result<DeviceFusedContext> DeviceFusion::Prefill(const Prompt& prompt,
                                                 const DeviceFusionRequest& request) {
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<RowSelector> selector,
                            MakeFusionSelector(request.fusion));
  if (selector->score_kind() == ScoreKind::kDeviation &&
      state_->transformer.config().num_layers <= kDeviationLayer) {
    return Status(StatusCode::kUnsupported,
                  "the selector deviation looks at the second layer, and the model has one");
  }
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state_->transformer.device()));
  DeviceFusedContext context;
  const auto fuse = [&](const Prompt& current) -> FusionTry {
    // A try that failed may have left work that reads the arena.
    if (Status status = kernels::WaitFor(stream()); !status.ok()) return {std::move(status), {}};
    state_->arena.Reset();
    Attempt attempt(state_.get(), current, request, *selector);
    Status status = attempt.Run(&context);
    return {std::move(status), attempt.failed_segment()};
  };
  INTARSIA_RETURN_IF_ERROR(FuseWithoutLostCaches(prompt, fuse, &context.lost_segments));
  return context;
}

}  // namespace intarsia::engine
