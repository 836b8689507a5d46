#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/device.h"
#include "kernels/gather_rows.h"
#include "kernels/residual_norm.h"
#include "kernels/upload.h"
#include "model/cuda_forward_state.h"

namespace intarsia::model {
namespace {

using kernels::DeviceBuffer;

constexpr int64_t kRowsMax = int64_t{1} << 20;
constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kF32Bytes = 4;
constexpr auto kNumberBytes = static_cast<int64_t>(sizeof(int32_t));

}  // namespace

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
  step = ForwardStep::kNothing;
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

CudaForward::CudaForward(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaForward::~CudaForward() {
  // The weights are given back on another stream, and may be as soon as this is gone.
  kernels::WaitFor(state_->stream).IgnoreError();
}

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

Status CudaForward::KeepRows(const int32_t* kept, int64_t num_kept) {
  State& state = *state_;
  INTARSIA_CHECK(state.step == ForwardStep::kPlaced);
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

Status CudaForward::KeepLastRows(int64_t num_kept) {
  State& state = *state_;
  INTARSIA_CHECK(state.step == ForwardStep::kPlaced);
  if (num_kept < 1 || num_kept > state.num_rows) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda forward pass: number of kept rows out of range: kept=" +
                      std::to_string(num_kept) + " rows=" + std::to_string(state.num_rows));
  }
  // Rows that are moved must not overlap where they go, and those of requests stay together.
  const int64_t first = state.num_rows - num_kept;
  if (num_kept > first || state.kv == nullptr) return Status::Ok();
  for (const auto& [rows, row_bytes] :
       {std::pair(&state.hidden, state.config().hidden_size * kF32Bytes),
        std::pair(&state.row_buffer, state.config().q_size() * kBf16Bytes)}) {
    auto* const bytes = rows->as<uint8_t>();
    INTARSIA_RETURN_IF_ERROR(kernels::CopyOnDevice(bytes, bytes + first * row_bytes,
                                                   num_kept * row_bytes, state.stream));
  }
  state.positions += first;
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

Status CudaForward::ComputeLogits(int64_t num_logit_rows) {
  State& state = *state_;
  const ModelConfig& config = state.config();
  INTARSIA_CHECK(state.step == ForwardStep::kNothing && state.layer == config.num_layers);
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
  const bool is_rotated =
      state.step == ForwardStep::kPlaced || state.step == ForwardStep::kAttended;
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
