#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/device.h"
#include "kernels/gated_activation.h"
#include "kernels/gather_rows.h"
#include "kernels/head_norm.h"
#include "kernels/place_rows.h"
#include "kernels/quantize_rows.h"
#include "kernels/residual_norm.h"
#include "kernels/upload.h"
#include "model/cuda_forward.h"
#include "model/cuda_weights.h"

namespace intarsia::model {
namespace {

using kernels::DeviceBuffer;

constexpr int64_t kRowsMax = int64_t{1} << 20;
constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kF32Bytes = 4;
constexpr auto kNumberBytes = static_cast<int64_t>(sizeof(int32_t));

// Rows of the feed-forward block at a time. Its inner width is the widest array of a pass; products
// of this height run at full speed.
constexpr int64_t kFfnRows = 8192;
// What a block's first row is a multiple of, so that its scales are aligned; divides kFfnRows.
constexpr int64_t kFfnRowsStep = 16;

enum class Step : uint8_t { kNothing, kQkv, kPlaced, kAttended };

// The left side of a product: rows in one of two forms.
struct ProductInput {
  const uint16_t* bf16 = nullptr;  // null: fp8
  kernels::Fp8Rows fp8 = {};
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
};

}  // namespace

struct CudaForward::State {
  const CudaWeights* weights = nullptr;
  CudaForwardOptions options;
  kernels::Stream stream = nullptr;
  int64_t num_bytes = 0;

  // The rows' arrays. An array that is not needed beside another one is the same memory:
  // row_buffer: the norm's output, then rotated queries, then a block's output, bf16
  // qkv_buffer: queries, keys and values, then the output of attention, bf16
  DeviceBuffer hidden;      // [num_rows_max, hidden_size] f32, the residual stream
  DeviceBuffer row_buffer;  // [num_rows_max, max(hidden_size, q_size)]
  DeviceBuffer qkv_buffer;  // [num_rows_max, q_size + 2 kv_size]
  DeviceBuffer gate_up;     // [ffn rows, 2 ffn_size]
  DeviceBuffer activated;   // [ffn rows, ffn_size]
  DeviceBuffer fp8_codes;   // [num_rows_max, max(hidden_size, q_size)], with e4m3 only: a product's
                            // input, but for that of the last one, which is in `activated`
  DeviceBuffer fp8_scales;  // [num_rows_max], as above
  DeviceBuffer logits;      // [num_logit_rows_max, logit_stride] f32
  DeviceBuffer product_space;
  DeviceBuffer attention_space;
  DeviceBuffer numbers;  // [3, num_rows_max]: tokens and positions; gathered positions
  kernels::PinnedBuffer staged_numbers;  // [2, num_rows_max]
  kernels::DeviceEvent numbers_copied;

  // Of the pass that is going on.
  const DeviceKv* kv = nullptr;  // null before the first pass, and for a batch
  CudaBatchOnDevice batch;       // its pool is null but for a batch
  const int32_t* positions = nullptr;
  int64_t num_rows = 0;
  int64_t max_position = 0;
  int32_t layer = 0;
  Step step = Step::kNothing;
  bool has_addend = false;  // row_buffer holds a block's output that is not yet added to `hidden`

  explicit State(kernels::DeviceEvent event) : numbers_copied(std::move(event)) {}

  const ModelConfig& config() const { return weights->config; }
  int64_t qkv_size() const { return config().q_size() + 2 * config().kv_size(); }
  const CudaLayerWeights& layer_weights(int32_t index) const {
    return weights->layers[static_cast<size_t>(index)];
  }
  kernels::PagedKvLayer pages(int32_t index) const {
    if (kv != nullptr) return kv->layer(index);
    return batch.pool->layer(index, batch.page_tables,
                             batch.page_table_stride * kernels::kPageTokens);
  }

  Status Allocate(int64_t bytes, DeviceBuffer* buffer);
  Status AllocateAll();
  Status CheckCounts(int64_t rows, int64_t last, int64_t position_end) const;
  // The pages are set by the caller.
  Status Start(const int32_t* tokens, const int32_t* row_positions, int64_t rows, int64_t last);
  // Whether the rows' product with this matrix is in e4m3.
  bool UsesFp8(const CudaMatrix& matrix) const {
    return weights->UsesFp8(num_rows) && matrix.fp8.codes != nullptr;
  }
  kernels::Fp8Target fp8_rows() const { return {fp8_codes.as<uint8_t>(), fp8_scales.as<float>()}; }
  // `next` is the matrix whose product comes next.
  Status Norm(const float* addend_weight, const float* weight, const CudaMatrix& next);
  // What Norm left of `rows` rows from `begin` on.
  ProductInput Normed(int64_t begin, int64_t rows, const CudaMatrix& next) const;
  // What Attend left.
  Result<ProductInput> Attended(const CudaMatrix& next);
  Status Multiply(const ProductInput& x, const CudaMatrix& matrix, const uint16_t* bias, void* y,
                  kernels::DeviceType y_type, int64_t outputs);
  Status GatherInPlace(const int32_t* kept, int64_t num_kept, int64_t row_bytes,
                       DeviceBuffer* rows);
  Status Attend(kernels::AttentionRowsCudaParams params);
  Status CheckRequests(const CudaBatchOnDevice& checked) const;
  Status RunFfnBlock(const CudaLayerWeights& layer_weights, int64_t begin, int64_t rows);
};

Status CudaForward::State::Allocate(int64_t bytes, DeviceBuffer* buffer) {
  INTARSIA_ASSIGN_OR_RETURN(*buffer, DeviceBuffer::Allocate(bytes, stream));
  num_bytes += bytes;
  return Status::Ok();
}

Status CudaForward::State::AllocateAll() {
  const int64_t rows = options.num_rows_max;
  const int64_t hidden_size = config().hidden_size;
  const int64_t row_size = std::max<int64_t>(hidden_size, config().q_size());
  const int64_t ffn_rows = std::min(rows, kFfnRows);
  INTARSIA_RETURN_IF_ERROR(Allocate(rows * hidden_size * kF32Bytes, &hidden));
  INTARSIA_RETURN_IF_ERROR(Allocate(rows * row_size * kBf16Bytes, &row_buffer));
  INTARSIA_RETURN_IF_ERROR(Allocate(rows * qkv_size() * kBf16Bytes, &qkv_buffer));
  INTARSIA_RETURN_IF_ERROR(Allocate(ffn_rows * 2 * config().ffn_size * kBf16Bytes, &gate_up));
  INTARSIA_RETURN_IF_ERROR(Allocate(ffn_rows * config().ffn_size * kBf16Bytes, &activated));
  if (weights->UsesFp8(rows)) {
    INTARSIA_RETURN_IF_ERROR(Allocate(rows * row_size, &fp8_codes));
    INTARSIA_RETURN_IF_ERROR(Allocate(rows * kF32Bytes, &fp8_scales));
  }
  INTARSIA_RETURN_IF_ERROR(
      Allocate(options.num_logit_rows_max * weights->logit_stride * kF32Bytes, &logits));
  INTARSIA_RETURN_IF_ERROR(
      Allocate(kernels::DeviceMatrixProducts::kWorkspaceBytes, &product_space));
  INTARSIA_RETURN_IF_ERROR(Allocate(3 * rows * kNumberBytes, &numbers));
  INTARSIA_ASSIGN_OR_RETURN(staged_numbers,
                            kernels::PinnedBuffer::Allocate(2 * rows * kNumberBytes));
  return Status::Ok();
}

Status CudaForward::State::CheckCounts(int64_t rows, int64_t last, int64_t position_end) const {
  if (rows >= 1 && rows <= options.num_rows_max && last >= 0 &&
      last < std::min(position_end, kCudaPositionsMax)) {
    return Status::Ok();
  }
  return Status(StatusCode::kInvalidArgument,
                "cuda forward pass: rows or positions out of range: rows=" + std::to_string(rows) +
                    " max=" + std::to_string(options.num_rows_max) +
                    " max_position=" + std::to_string(last) +
                    " positions=" + std::to_string(std::min(position_end, kCudaPositionsMax)));
}

Status CudaForward::State::Start(const int32_t* tokens, const int32_t* row_positions, int64_t rows,
                                 int64_t last) {
  positions = row_positions;
  num_rows = rows;
  max_position = last;
  layer = 0;
  step = Step::kNothing;
  has_addend = false;
  return kernels::EmbedRowsCuda({.table = weights->embedding,
                                 .tokens = tokens,
                                 .hidden = hidden.as<float>(),
                                 .vocab_size = config().vocab_size,
                                 .num_rows = rows,
                                 .dim = config().hidden_size,
                                 .scale = config().embedding_scale},
                                stream);
}

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

CudaForward::CudaForward(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaForward::~CudaForward() = default;

Result<std::unique_ptr<CudaForward>> CudaForward::Create(const CudaTransformer& transformer,
                                                         const CudaForwardOptions& options,
                                                         kernels::Stream stream) {
  if (options.num_rows_max < 1 || options.num_rows_max > kRowsMax ||
      options.num_logit_rows_max < 1 || options.num_logit_rows_max > options.num_rows_max) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda forward pass: bad number of rows: num_rows_max=" +
                      std::to_string(options.num_rows_max) +
                      " num_logit_rows_max=" + std::to_string(options.num_logit_rows_max));
  }
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent event,
                            kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
  auto state = std::make_unique<State>(std::move(event));
  state->weights = &transformer.weights();
  state->options = options;
  state->stream = stream;
  INTARSIA_RETURN_IF_ERROR(state->AllocateAll());
  return std::unique_ptr<CudaForward>(new CudaForward(std::move(state)));
}

Status CudaForward::Begin(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                          const DeviceKv& kv) {
  State& state = *state_;
  const auto refuse = [](const std::string& what) {
    return Status(StatusCode::kInvalidArgument, "cuda forward pass: " + what);
  };
  const auto num_rows = static_cast<int64_t>(tokens.size());
  if (tokens.empty() || num_rows > state.options.num_rows_max) {
    return refuse("number of rows out of range: rows=" + std::to_string(num_rows) +
                  " max=" + std::to_string(state.options.num_rows_max));
  }
  if (tokens.size() != positions.size()) return refuse("tokens and positions differ in number");
  const int64_t position_end = std::min(kv.capacity(), kCudaPositionsMax);
  int32_t last = -1;
  for (size_t row = 0; row < tokens.size(); ++row) {
    if (tokens[row] < 0 || tokens[row] >= state.config().vocab_size) {
      return refuse("token is not in the vocabulary: " + std::to_string(tokens[row]));
    }
    if (positions[row] <= last || positions[row] >= position_end) {
      return refuse("positions must ascend below " + std::to_string(position_end) +
                    ": position=" + std::to_string(positions[row]));
    }
    last = positions[row];
  }
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state.weights->device));
  // The copy of the pass before may still be reading.
  INTARSIA_RETURN_IF_ERROR(state.numbers_copied.Wait());
  auto* const staged = state.staged_numbers.as<int32_t>();
  std::ranges::copy(tokens, staged);
  std::ranges::copy(positions, staged + num_rows);
  auto* const on_device = state.numbers.as<int32_t>();
  INTARSIA_RETURN_IF_ERROR(kernels::UploadCuda(
      {.source = staged, .target = on_device, .num_bytes = 2 * num_rows * kNumberBytes},
      state.stream));
  INTARSIA_RETURN_IF_ERROR(state.numbers_copied.Record(state.stream));
  state.kv = &kv;
  state.batch = {};
  return state.Start(on_device, on_device + num_rows, num_rows, last);
}

Status CudaForward::BeginOnDevice(const CudaRowsOnDevice& rows, const DeviceKv& kv) {
  State& state = *state_;
  INTARSIA_RETURN_IF_ERROR(state.CheckCounts(rows.num_rows, rows.max_position, kv.capacity()));
  if (rows.tokens == nullptr || rows.positions == nullptr) {
    return Status(StatusCode::kInvalidArgument, "cuda forward pass: null tokens or positions");
  }
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state.weights->device));
  state.kv = &kv;
  state.batch = {};
  return state.Start(rows.tokens, rows.positions, rows.num_rows, rows.max_position);
}

Status CudaForward::BeginBatch(const CudaBatchOnDevice& batch) {
  State& state = *state_;
  if (batch.pool == nullptr || batch.tokens == nullptr || batch.positions == nullptr ||
      batch.page_tables == nullptr || batch.page_table_stride < 1 ||
      batch.page_table_stride > kRowsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda forward pass: null pointer or bad page table stride: stride=" +
                      std::to_string(batch.page_table_stride));
  }
  INTARSIA_RETURN_IF_ERROR(state.CheckCounts(batch.num_rows, batch.max_position,
                                             batch.page_table_stride * kernels::kPageTokens));
  INTARSIA_RETURN_IF_ERROR(state.CheckRequests(batch));
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state.weights->device));
  state.kv = nullptr;
  state.batch = batch;
  return state.Start(batch.tokens, batch.positions, batch.num_rows, batch.max_position);
}

Status CudaForward::State::CheckRequests(const CudaBatchOnDevice& checked) const {
  int64_t num_request_rows = 0;
  for (const CudaRequestRows& request : checked.requests) {
    if (request.num_rows < 1 || request.num_rows > checked.num_rows - num_request_rows ||
        request.max_position < 0 || request.max_position > checked.max_position) {
      num_request_rows = -1;
      break;
    }
    num_request_rows += request.num_rows;
  }
  if (checked.requests.empty() || num_request_rows == checked.num_rows) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "cuda forward pass: requests do not make up the rows: requests=" +
                    std::to_string(checked.requests.size()) +
                    " rows=" + std::to_string(checked.num_rows));
}

Status CudaForward::ComputeQkv(int32_t layer) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.positions != nullptr && state.step == Step::kNothing &&
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
  state.step = Step::kQkv;
  return Status::Ok();
}

Status CudaForward::PlaceKv(int32_t layer) {
  State& state = *state_;
  INTARSIA_CHECK(state.step == Step::kQkv && layer == state.layer);
  state.step = Step::kPlaced;
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

Status CudaForward::KeepRows(const int32_t* kept, int64_t num_kept) {
  State& state = *state_;
  INTARSIA_CHECK(state.step == Step::kPlaced);
  if (kept == nullptr || num_kept < 1 || num_kept > state.num_rows) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda forward pass: number of kept rows out of range: kept=" +
                      std::to_string(num_kept) + " rows=" + std::to_string(state.num_rows));
  }
  INTARSIA_RETURN_IF_ERROR(
      state.GatherInPlace(kept, num_kept, state.config().hidden_size * kF32Bytes, &state.hidden));
  INTARSIA_RETURN_IF_ERROR(
      state.GatherInPlace(kept, num_kept, state.config().q_size() * kBf16Bytes, &state.row_buffer));
  // Positions move between the third part of `numbers`, which Begin does not write, and the first,
  // whose tokens have been read.
  auto* const first = state.numbers.as<int32_t>();
  auto* const third = first + 2 * state.options.num_rows_max;
  auto* const gathered = state.positions == third ? first : third;
  INTARSIA_RETURN_IF_ERROR(kernels::GatherRowsCuda({.source = state.positions,
                                                    .rows = kept,
                                                    .target = gathered,
                                                    .num_source_rows = state.num_rows,
                                                    .num_rows = num_kept,
                                                    .row_bytes = kNumberBytes},
                                                   state.stream));
  state.positions = gathered;
  state.num_rows = num_kept;
  return Status::Ok();
}

// Moves the rows `kept` of `rows` to its front, by way of the feed-forward block's memory, which is
// free now. A piece goes back before the next one is gathered: ascending rows lie behind it.
Status CudaForward::State::GatherInPlace(const int32_t* kept, int64_t num_kept, int64_t row_bytes,
                                         DeviceBuffer* rows) {
  const int64_t piece = gate_up.num_bytes() / row_bytes;
  if (piece < 1) {
    return Status(StatusCode::kUnsupported, "cuda forward pass: a row is wider than the block");
  }
  for (int64_t begin = 0; begin < num_kept; begin += piece) {
    const int64_t end = std::min(num_kept, begin + piece);
    INTARSIA_RETURN_IF_ERROR(kernels::GatherRowsCuda({.source = rows->data(),
                                                      .rows = kept + begin,
                                                      .target = gate_up.data(),
                                                      .num_source_rows = num_rows,
                                                      .num_rows = end - begin,
                                                      .row_bytes = row_bytes},
                                                     stream));
    INTARSIA_RETURN_IF_ERROR(kernels::CopyOnDevice(rows->as<uint8_t>() + begin * row_bytes,
                                                   gate_up.data(), (end - begin) * row_bytes,
                                                   stream));
  }
  return Status::Ok();
}

Status CudaForward::Attend(int32_t layer, float* lse) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.step == Step::kPlaced && layer == state.layer);
  state.step = Step::kAttended;
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
  INTARSIA_CHECK(state.step == Step::kAttended && layer == state.layer);
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
  state.step = Step::kNothing;
  ++state.layer;
  return Status::Ok();
}

Status CudaForward::RunLayer(int32_t layer) {
  INTARSIA_RETURN_IF_ERROR(ComputeQkv(layer));
  INTARSIA_RETURN_IF_ERROR(PlaceKv(layer));
  INTARSIA_RETURN_IF_ERROR(Attend(layer));
  return RunFfn(layer);
}

Status CudaForward::ComputeLogits(int64_t num_logit_rows) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.step == Step::kNothing && state.layer == config.num_layers);
  if (num_logit_rows < 1 || num_logit_rows > state.options.num_logit_rows_max ||
      num_logit_rows > state.num_rows) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda forward pass: number of logit rows out of range: logit_rows=" +
                      std::to_string(num_logit_rows) +
                      " max=" + std::to_string(state.options.num_logit_rows_max) +
                      " rows=" + std::to_string(state.num_rows));
  }
  const int64_t first = (state.num_rows - num_logit_rows) * config.hidden_size;
  uint16_t* const rows = state.row_buffer.as<uint16_t>() + first;
  INTARSIA_RETURN_IF_ERROR(
      kernels::ResidualNormCuda({.hidden = state.hidden.as<float>() + first,
                                 .addend = rows,
                                 .addend_weight = state.weights->layers.back().post_ffn_norm,
                                 .weight = state.weights->output_norm,
                                 .y = rows,
                                 .num_rows = num_logit_rows,
                                 .dim = config.hidden_size,
                                 .epsilon = config.norm_epsilon},
                                state.stream));
  return state.Multiply(
      {.bf16 = rows, .num_rows = num_logit_rows, .num_inputs = config.hidden_size},
      {.bf16 = state.weights->head}, nullptr, state.logits.data(), kernels::DeviceType::kF32,
      state.weights->logit_stride);
}

CudaRows CudaForward::rows() const {
  const State& state = *state_;
  const bool is_rotated = state.step == Step::kPlaced || state.step == Step::kAttended;
  auto* const qkv = state.qkv_buffer.as<uint16_t>();
  const uint16_t* const k = qkv + state.config().q_size();
  return {.num_rows = state.num_rows,
          .positions = state.positions,
          .q = is_rotated ? state.row_buffer.as<uint16_t>() : qkv,
          .q_stride = is_rotated ? state.config().q_size() : state.qkv_size(),
          .k = k,
          .v = k + state.config().kv_size(),
          .kv_stride = state.qkv_size()};
}

const float* CudaForward::logits() const { return state_->logits.as<float>(); }
int64_t CudaForward::logit_stride() const { return state_->weights->logit_stride; }
kernels::Stream CudaForward::stream() const { return state_->stream; }
int64_t CudaForward::num_bytes() const { return state_->num_bytes; }

}  // namespace intarsia::model
