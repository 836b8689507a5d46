// The four steps of a layer.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/gated_activation.h"
#include "kernels/head_norm.h"
#include "kernels/place_rows.h"
#include "kernels/quantize_rows.h"
#include "kernels/residual_norm.h"
#include "model/cuda_forward_state.h"

namespace intarsia::model {
namespace {

// What a block's first row is a multiple of, so that its scales are aligned; divides kFfnRows.
constexpr int64_t kFfnRowsStep = 16;

}  // namespace

// Adds what is pending to `hidden` and leaves the norm in row_buffer or fp8_codes.
Status CudaForward::State::Norm(const float* addend_weight, const float* weight,
                                const CudaMatrix& next) {
  auto* const rows = row_buffer.as<uint16_t>();
  INTARSIA_RETURN_IF_ERROR(
      kernels::ResidualNormCuda({.hidden = hidden.as<float>(),
                                 .addend = has_addend ? rows : nullptr,
                                 .addend_weight = has_addend ? addend_weight : nullptr,
                                 .weight = weight,
                                 .y = UsesFp8(next) ? nullptr : rows,
                                 .y_fp8 = UsesFp8(next) ? fp8_rows() : kernels::Fp8Target{},
                                 .num_rows = num_rows,
                                 .dim = config().hidden_size,
                                 .epsilon = config().norm_epsilon},
                                stream));
  has_addend = false;
  return Status::Ok();
}

ProductInput CudaForward::State::Normed(int64_t begin, int64_t rows, const CudaMatrix& next) const {
  const int64_t hidden_size = config().hidden_size;
  ProductInput x{.num_rows = rows, .num_inputs = hidden_size};
  if (UsesFp8(next)) {
    const kernels::Fp8Target target = fp8_rows();
    x.fp8 = {target.codes + begin * hidden_size, target.scales + begin};
  } else {
    x.bf16 = row_buffer.as<uint16_t>() + begin * hidden_size;
  }
  return x;
}

Result<ProductInput> CudaForward::State::Attended(const CudaMatrix& next) {
  ProductInput x{.num_rows = num_rows, .num_inputs = config().q_size()};
  if (!UsesFp8(next)) {
    x.bf16 = qkv_buffer.as<uint16_t>();
    return x;
  }
  const kernels::Fp8Target target = fp8_rows();
  INTARSIA_RETURN_IF_ERROR(kernels::QuantizeRowsCuda(
      {.x = qkv_buffer.as<uint16_t>(), .y = target, .num_rows = num_rows, .dim = x.num_inputs},
      stream));
  x.fp8 = {target.codes, target.scales};
  return x;
}

Status CudaForward::State::Multiply(const ProductInput& x, const CudaMatrix& matrix,
                                    const uint16_t* bias, void* y, kernels::DeviceType y_type,
                                    int64_t outputs) {
  const bool is_fp8 = x.bf16 == nullptr;
  return weights->products->MultiplyCuda({.x = x.bf16,
                                          .weights = is_fp8 ? nullptr : matrix.bf16,
                                          .x_fp8 = x.fp8,
                                          .weights_fp8 = is_fp8 ? matrix.fp8 : kernels::Fp8Rows{},
                                          .fp8_sums = weights->options.fp8_sums,
                                          .bias = bias,
                                          .y = y,
                                          .y_type = y_type,
                                          .num_rows = x.num_rows,
                                          .num_inputs = x.num_inputs,
                                          .num_outputs = outputs,
                                          .workspace = product_space.data()},
                                         stream);
}

Status CudaForward::ComputeQkv(int32_t layer) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.positions != nullptr && state.step == ForwardStep::kNothing &&
                 layer == state.layer && layer < config.num_layers);
  const CudaLayerWeights& weights = state.layer_weights(layer);
  const float* const post_norm = layer > 0 ? state.layer_weights(layer - 1).post_ffn_norm : nullptr;
  INTARSIA_RETURN_IF_ERROR(state.Norm(post_norm, weights.attention_norm, weights.qkv));
  INTARSIA_RETURN_IF_ERROR(state.Multiply(state.Normed(0, state.num_rows, weights.qkv), weights.qkv,
                                          weights.qkv_bias, state.qkv_buffer.data(),
                                          kernels::DeviceType::kBf16, state.qkv_size()));
  if (weights.q_norm != nullptr) {
    INTARSIA_RETURN_IF_ERROR(kernels::HeadNormCuda({.heads = state.qkv_buffer.as<uint16_t>(),
                                                    .stride = state.qkv_size(),
                                                    .q_weight = weights.q_norm,
                                                    .k_weight = weights.k_norm,
                                                    .num_rows = state.num_rows,
                                                    .num_q_heads = config.num_heads,
                                                    .num_k_heads = config.num_kv_heads,
                                                    .head_dim = config.head_dim,
                                                    .epsilon = config.norm_epsilon},
                                                   state.stream));
  }
  state.step = ForwardStep::kQkv;
  return Status::Ok();
}

Status CudaForward::PlaceKv(int32_t layer) {
  State& state = *state_;
  INTARSIA_CHECK(state.step == ForwardStep::kQkv && layer == state.layer);
  state.step = ForwardStep::kPlaced;
  return kernels::PlaceRowsCuda({.layer = state.pages(layer),
                                 .page_table_stride = state.batch.page_table_stride,
                                 .qkv = state.qkv_buffer.as<uint16_t>(),
                                 .positions = state.positions,
                                 .rope = state.weights->rope_digits(layer),
                                 .q = state.row_buffer.as<uint16_t>(),
                                 .num_rows = state.num_rows,
                                 .num_heads = state.config().num_heads},
                                state.stream);
}

Status CudaForward::Attend(int32_t layer, float* lse) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.step == ForwardStep::kPlaced && layer == state.layer);
  state.step = ForwardStep::kAttended;
  kernels::AttentionRowsCudaParams params{
      .layer = state.pages(layer),
      .page_table_stride = state.batch.page_table_stride,
      .q = state.row_buffer.as<uint16_t>(),
      .positions = state.positions,
      .num_rows = state.num_rows,
      .max_position = state.max_position,
      .num_heads = config.num_heads,
      .scale = config.attention_scale,
      .window = config.has_window(layer) ? config.sliding_window : 0,
      .logit_softcap = config.attention_logit_softcap,
      .output = state.qkv_buffer.as<uint16_t>(),
      .lse = lse};
  if (state.batch.requests.empty()) return state.Attend(params);
  const int64_t row_size = config.q_size();
  params.page_table_stride = 0;
  for (const CudaRequestRows& request : state.batch.requests) {
    params.num_rows = request.num_rows;
    params.max_position = request.max_position;
    INTARSIA_RETURN_IF_ERROR(state.Attend(params));
    params.layer.page_table += request.num_rows * state.batch.page_table_stride;
    params.q += request.num_rows * row_size;
    params.output += request.num_rows * row_size;
    params.positions += request.num_rows;
    if (lse != nullptr) params.lse += request.num_rows * config.num_heads;
  }
  return Status::Ok();
}

// The attention with scratch memory.
Status CudaForward::State::Attend(kernels::AttentionRowsCudaParams params) {
  INTARSIA_ASSIGN_OR_RETURN(const int64_t wanted, kernels::AttentionRowsWorkspaceBytes(params));
  if (wanted > attention_space.num_bytes()) {
    const int64_t given_back = attention_space.num_bytes();
    INTARSIA_RETURN_IF_ERROR(Allocate(wanted, &attention_space));
    num_bytes -= given_back;
  }
  params.workspace = attention_space.data();
  params.workspace_bytes = attention_space.num_bytes();
  return kernels::AttentionRowsCuda(params, stream);
}

Status CudaForward::State::RunFfnBlock(const CudaLayerWeights& layer_weights, int64_t begin,
                                       int64_t rows) {
  const int64_t hidden_size = config().hidden_size;
  const int64_t ffn_size = config().ffn_size;
  INTARSIA_RETURN_IF_ERROR(Multiply(Normed(begin, rows, layer_weights.gate_up),
                                    layer_weights.gate_up, nullptr, gate_up.data(),
                                    kernels::DeviceType::kBf16, 2 * ffn_size));
  // The block's norm has been read by now, so its scales and later its output take the place.
  const bool is_fp8 = UsesFp8(layer_weights.down);
  kernels::Fp8Target target;
  if (is_fp8) target = {activated.as<uint8_t>(), fp8_rows().scales + begin};
  INTARSIA_RETURN_IF_ERROR(
      kernels::GatedActivationCuda({.kind = config().activation,
                                    .gate_up = gate_up.as<uint16_t>(),
                                    .y = is_fp8 ? nullptr : activated.as<uint16_t>(),
                                    .y_fp8 = target,
                                    .num_rows = rows,
                                    .dim = ffn_size},
                                   stream));
  ProductInput x{.num_rows = rows, .num_inputs = ffn_size};
  if (is_fp8) {
    x.fp8 = {target.codes, target.scales};
  } else {
    x.bf16 = activated.as<uint16_t>();
  }
  return Multiply(x, layer_weights.down, nullptr, row_buffer.as<uint16_t>() + begin * hidden_size,
                  kernels::DeviceType::kBf16, hidden_size);
}

Status CudaForward::RunFfn(int32_t layer) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.step == ForwardStep::kAttended && layer == state.layer);
  const CudaLayerWeights& weights = state.layer_weights(layer);
  INTARSIA_ASSIGN_OR_RETURN(const ProductInput attended, state.Attended(weights.output));
  INTARSIA_RETURN_IF_ERROR(state.Multiply(attended, weights.output, nullptr,
                                          state.row_buffer.data(), kernels::DeviceType::kBf16,
                                          config.hidden_size));
  state.has_addend = true;
  INTARSIA_RETURN_IF_ERROR(
      state.Norm(weights.post_attention_norm, weights.ffn_norm, weights.gate_up));
  // Even blocks, so that none is so low that its products run slowly.
  const int64_t num_blocks = (state.num_rows + kFfnRows - 1) / kFfnRows;
  const auto end_of = [&](int64_t block) {
    const int64_t end = state.num_rows * block / num_blocks;
    return std::min(state.num_rows, (end + kFfnRowsStep - 1) / kFfnRowsStep * kFfnRowsStep);
  };
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t begin = end_of(block);
    const int64_t end = end_of(block + 1);
    INTARSIA_RETURN_IF_ERROR(state.RunFfnBlock(weights, begin, end - begin));
  }
  state.has_addend = true;
  state.step = ForwardStep::kNothing;
  ++state.layer;
  return Status::Ok();
}

Status CudaForward::RunLayer(int32_t layer) {
  INTARSIA_RETURN_IF_ERROR(ComputeQkv(layer));
  INTARSIA_RETURN_IF_ERROR(PlaceKv(layer));
  INTARSIA_RETURN_IF_ERROR(Attend(layer));
  return RunFfn(layer);
}

Status CudaForward::RunLayers(int32_t first_layer, int64_t num_logit_rows) {
  const int32_t last_layer = state_->config().num_layers - 1;
  for (int32_t layer = first_layer; layer < last_layer; ++layer) {
    INTARSIA_RETURN_IF_ERROR(RunLayer(layer));
  }
  INTARSIA_RETURN_IF_ERROR(ComputeQkv(last_layer));
  INTARSIA_RETURN_IF_ERROR(PlaceKv(last_layer));
  INTARSIA_RETURN_IF_ERROR(KeepLastRows(num_logit_rows));
  INTARSIA_RETURN_IF_ERROR(Attend(last_layer));
  return RunFfn(last_layer);
}

}  // namespace intarsia::model
