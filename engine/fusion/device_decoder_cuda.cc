#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "engine/fusion/device_decoder.h"
#include "engine/fusion/fused_prefill.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/device.h"
#include "model/cuda_forward.h"

namespace intarsia::engine {
namespace {

constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));

// Attention is kept for a multiple of so many positions, so that a longer answer rarely has to
// allocate.
constexpr int64_t kPositionsStep = 4096;

}  // namespace

struct DeviceDecoder::State {
  State(const model::CudaTransformer& used_transformer, kernels::DeviceStream own_stream)
      : transformer(used_transformer), stream(std::move(own_stream)) {}

  const model::CudaTransformer& transformer;
  kernels::DeviceStream stream;  // before the memory, which is given back on it
  std::unique_ptr<model::CudaForward> forward;
  kernels::DeviceBuffer one;        // the weight of the row
  kernels::DeviceBuffer mass;       // [positions]
  kernels::DeviceBuffer lse;        // [num_heads], of the row in the layer at hand
  kernels::DeviceBuffer workspace;  // of the mass
  kernels::PinnedBuffer logits;     // [vocab_size]
  kernels::PinnedBuffer attention;  // [positions]

  Status Reserve(int64_t num_positions);
  Status Observe(const model::DeviceKv& kv, int32_t layer, int64_t position);
  Status RunLayers(const model::DeviceKv& kv, int64_t position, const CancelToken* cancel);
};

Status DeviceDecoder::State::Reserve(int64_t num_positions) {
  const int64_t wanted = (num_positions + kPositionsStep - 1) / kPositionsStep * kPositionsStep;
  if (wanted * kFloatBytes <= mass.num_bytes()) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(attention, kernels::PinnedBuffer::Allocate(wanted * kFloatBytes));
  INTARSIA_ASSIGN_OR_RETURN(mass,
                            kernels::DeviceBuffer::Allocate(wanted * kFloatBytes, stream.get()));
  return Status::Ok();
}

// Adds what the row looks at in this layer, behind Attend.
Status DeviceDecoder::State::Observe(const model::DeviceKv& kv, int32_t layer, int64_t position) {
  const model::ModelConfig& config = transformer.config();
  const model::CudaRows rows = forward->rows();
  kernels::AttentionMassCudaParams params = {
      .rows = {.layer = kv.layer(layer),
               .q = rows.q,
               .positions = rows.positions,
               .num_rows = 1,
               .max_position = position,
               .num_heads = config.num_heads,
               .scale = config.attention_scale,
               .window = config.has_window(layer) ? config.sliding_window : 0,
               .logit_softcap = config.attention_logit_softcap},
      .weights = one.as<float>(),
      .lse = lse.as<float>(),
      .mass = mass.as<float>(),
      .num_keys = position + 1};
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_bytes, kernels::AttentionMassWorkspaceBytes(params));
  if (num_bytes > workspace.num_bytes()) {
    // Twice as much, so that it grows a few times in a long answer and not with every page.
    INTARSIA_ASSIGN_OR_RETURN(workspace,
                              kernels::DeviceBuffer::Allocate(2 * num_bytes, stream.get()));
  }
  params.rows.workspace = workspace.data();
  params.rows.workspace_bytes = workspace.num_bytes();
  return kernels::AttentionMassCuda(params, stream.get());
}

Status DeviceDecoder::State::RunLayers(const model::DeviceKv& kv, int64_t position,
                                       const CancelToken* cancel) {
  const int32_t num_layers = transformer.config().num_layers;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_RETURN_IF_ERROR(forward->ComputeQkv(layer));
    INTARSIA_RETURN_IF_ERROR(forward->PlaceKv(layer));
    const bool is_observed = layer >= FirstObservedLayer(num_layers);
    INTARSIA_RETURN_IF_ERROR(forward->Attend(layer, is_observed ? lse.as<float>() : nullptr));
    if (is_observed) INTARSIA_RETURN_IF_ERROR(Observe(kv, layer, position));
    INTARSIA_RETURN_IF_ERROR(forward->RunFfn(layer));
  }
  return forward->ComputeLogits(1);
}

DeviceDecoder::DeviceDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}

// An error here was or will be seen by whoever uses the device next.
DeviceDecoder::~DeviceDecoder() { Finish().IgnoreError(); }

Result<std::unique_ptr<DeviceDecoder>> DeviceDecoder::Create(
    const model::CudaTransformer& transformer) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kHigh));
  auto state = std::make_unique<State>(transformer, std::move(stream));
  const kernels::Stream on = state->stream.get();
  INTARSIA_ASSIGN_OR_RETURN(
      state->forward,
      model::CudaForward::Create(transformer, {.num_rows_max = 1, .num_logit_rows_max = 1}, on));
  INTARSIA_ASSIGN_OR_RETURN(state->one, kernels::DeviceBuffer::Allocate(kFloatBytes, on));
  INTARSIA_ASSIGN_OR_RETURN(state->lse, kernels::DeviceBuffer::Allocate(
                                            transformer.config().num_heads * kFloatBytes, on));
  constexpr float kOne = 1.0f;
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(state->one.data(), &kOne, kFloatBytes, on));
  INTARSIA_ASSIGN_OR_RETURN(state->logits, kernels::PinnedBuffer::Allocate(
                                               transformer.config().vocab_size * kFloatBytes));
  return std::unique_ptr<DeviceDecoder>(new DeviceDecoder(std::move(state)));
}

Result<FusedStep> DeviceDecoder::Step(const model::DeviceKv& kv, int32_t token, int64_t position,
                                      const CancelToken* cancel) {
  State& state = *state_;
  if (position < 0 || position >= kv.capacity()) {
    return Status(StatusCode::kInvalidArgument,
                  "there is no room for a token at position " + std::to_string(position));
  }
  const kernels::Stream stream = state.stream.get();
  const auto at = static_cast<int32_t>(position);
  INTARSIA_RETURN_IF_ERROR(state.forward->Begin({&token, 1}, {&at, 1}, kv));
  INTARSIA_RETURN_IF_ERROR(state.Reserve(position + 1));
  const int64_t mass_bytes = (position + 1) * kFloatBytes;
  INTARSIA_RETURN_IF_ERROR(kernels::FillDevice(state.mass.data(), 0, mass_bytes, stream));
  INTARSIA_RETURN_IF_ERROR(state.RunLayers(kv, position, cancel));
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(state.logits.data(), state.forward->logits(),
                                               state.logits.num_bytes(), stream));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToHost(state.attention.data(), state.mass.data(), mass_bytes, stream));
  INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream));
  const auto vocab_size = static_cast<size_t>(state.transformer.config().vocab_size);
  return FusedStep{.logits = {state.logits.as<float>(), vocab_size},
                   .attention = {state.attention.as<float>(), static_cast<size_t>(position + 1)}};
}

Status DeviceDecoder::Finish() const { return kernels::WaitFor(state_->stream.get()); }

}  // namespace intarsia::engine
