#include <algorithm>
#include <bit>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/device.h"
#include "model/cuda_decoder.h"
#include "model/cuda_forward.h"
#include "model/cuda_weights.h"

namespace intarsia::model {
namespace {

constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
constexpr auto kNumberBytes = static_cast<int64_t>(sizeof(int32_t));

// The smallest bound on positions that a graph is made for, which is doubled as needed. It decides
// into how many parts attention cuts the keys; what a row sees is its own position's matter.
constexpr int64_t kBoundMin = 1024;

// The bound of a shape that holds `needed` positions: steps of an eighth of a power of two, so that
// shapes are few and attention plans for little more than there is.
int64_t BoundFor(int64_t needed) {
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(needed)));
  const int64_t step = std::max(kBoundMin, power / 8);
  return (needed + step - 1) / step * step;
}

// How a batch is laid out in memory, on the device and in pinned memory alike.
struct BatchArrays {
  int32_t* tokens = nullptr;             // [batch_max]
  int32_t* positions = nullptr;          // [batch_max]
  kernels::SampleRule* rules = nullptr;  // [batch_max]
  int32_t* page_tables = nullptr;        // [batch_max, table_width]

  static int64_t NumBytes(int64_t batch_max, int64_t table_width) {
    return batch_max * (2 * kNumberBytes + static_cast<int64_t>(sizeof(kernels::SampleRule)) +
                        table_width * kNumberBytes);
  }
  // Rules first, which have the strictest alignment.
  BatchArrays(void* memory, int64_t batch_max)
      : tokens(reinterpret_cast<int32_t*>(static_cast<kernels::SampleRule*>(memory) + batch_max)),
        positions(tokens + batch_max),
        rules(static_cast<kernels::SampleRule*>(memory)),
        page_tables(positions + batch_max) {}
};

}  // namespace

struct CudaDecoder::State {
  struct Shape {
    int64_t num_rows = 0;
    int64_t bound = 0;  // on positions, exclusive
    auto operator<=>(const Shape&) const = default;
  };
  struct Recording {
    std::unique_ptr<kernels::DeviceGraph> graph;  // null until the shape's second step
    bool is_refused = false;                      // it could not be recorded
  };

  const CudaTransformer* transformer = nullptr;
  const DeviceKvPool* pool = nullptr;
  CudaDecoderOptions options;
  kernels::Stream stream = nullptr;
  int64_t table_width = 0;
  std::unique_ptr<CudaForward> forward;
  kernels::DeviceBuffer batch;
  kernels::PinnedBuffer staged_batch;
  kernels::PinnedBuffer drawn;  // [batch_max] tokens
  kernels::DeviceEvent batch_copied;
  kernels::DeviceEvent step_done;
  std::map<Shape, Recording> recordings;

  // Of an observed request; empty for others. For the bound of the largest shape.
  kernels::DeviceBuffer one;   // the weight of the row
  kernels::DeviceBuffer lse;   // [num_heads], of the row in the layer at hand
  kernels::DeviceBuffer mass;  // [bound]
  kernels::DeviceBuffer mass_workspace;
  kernels::PinnedBuffer attention;  // [bound]

  // Of the batch.
  int64_t num_rows = 0;
  int64_t max_position = 0;  // of the next step
  int64_t steps_left = 0;    // until a row has no page for its position
  bool has_stepped = false;
  int64_t last_bound = 0;  // of the last step's shape

  State(kernels::DeviceEvent copied, kernels::DeviceEvent done)
      : batch_copied(std::move(copied)), step_done(std::move(done)) {}

  bool is_observed(int32_t layer) const {
    return options.first_observed_layer.has_value() && layer >= *options.first_observed_layer;
  }
  // Changes when memory that graphs may name has been given back for more.
  int64_t scratch_bytes() const { return forward->num_bytes() + mass_workspace.num_bytes(); }
  Status AllocateObserved();
  Status CheckRow(const CudaDecodeRow& row) const;
  // Adds up what the only row attends to in this layer, behind Attend.
  Status Observe(int32_t layer, int64_t bound);
  Status EnqueueLayers(int64_t bound);
  Status Enqueue(const Shape& shape);
  // The same by a graph, from the second step of a shape on.
  Status Run(const Shape& shape);
};

CudaDecoder::CudaDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaDecoder::~CudaDecoder() {
  // A step that nobody waited for writes into pinned memory.
  kernels::WaitFor(state_->stream).IgnoreError();
}

Result<std::unique_ptr<CudaDecoder>> CudaDecoder::Create(const CudaTransformer& transformer,
                                                         const DeviceKvPool& pool,
                                                         const CudaDecoderOptions& options,
                                                         kernels::Stream stream) {
  if (options.batch_max < 1 || options.batch_max > kBatchMax || options.num_tokens_max < 1 ||
      options.num_tokens_max > kCudaPositionsMax) {
    return Status(
        StatusCode::kInvalidArgument,
        "cuda decoder: option out of range: batch_max=" + std::to_string(options.batch_max) +
            " num_tokens_max=" + std::to_string(options.num_tokens_max));
  }
  if (options.first_observed_layer.has_value() &&
      (options.batch_max != 1 || *options.first_observed_layer < 0 ||
       *options.first_observed_layer >= transformer.config().num_layers)) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda decoder: layers can be observed in a batch of one: first_observed_layer=" +
                      std::to_string(*options.first_observed_layer) +
                      " batch_max=" + std::to_string(options.batch_max));
  }
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent copied,
                            kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent done,
                            kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
  auto state = std::make_unique<State>(std::move(copied), std::move(done));
  state->transformer = &transformer;
  state->pool = &pool;
  state->options = options;
  state->stream = stream;
  // Room for the bound of the largest shape.
  state->table_width = kernels::NumPagesFor(BoundFor(options.num_tokens_max));
  const auto rows_max =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint32_t>(options.batch_max)));
  state->options.batch_max = static_cast<int32_t>(rows_max);
  INTARSIA_ASSIGN_OR_RETURN(
      state->forward,
      CudaForward::Create(transformer, {.num_rows_max = rows_max, .num_logit_rows_max = rows_max},
                          stream));
  const int64_t batch_bytes = BatchArrays::NumBytes(rows_max, state->table_width);
  INTARSIA_ASSIGN_OR_RETURN(state->batch, kernels::DeviceBuffer::Allocate(batch_bytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(state->staged_batch, kernels::PinnedBuffer::Allocate(batch_bytes));
  INTARSIA_ASSIGN_OR_RETURN(state->drawn, kernels::PinnedBuffer::Allocate(rows_max * kNumberBytes));
  if (options.first_observed_layer.has_value()) {
    INTARSIA_RETURN_IF_ERROR(state->AllocateObserved());
  }
  return std::unique_ptr<CudaDecoder>(new CudaDecoder(std::move(state)));
}

Status CudaDecoder::State::AllocateObserved() {
  const int64_t bound = table_width * kernels::kPageTokens;
  const ModelConfig& config = transformer->config();
  INTARSIA_ASSIGN_OR_RETURN(one, kernels::DeviceBuffer::Allocate(kFloatBytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(
      lse, kernels::DeviceBuffer::Allocate(config.num_heads * kFloatBytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(mass, kernels::DeviceBuffer::Allocate(bound * kFloatBytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(attention, kernels::PinnedBuffer::Allocate(bound * kFloatBytes));
  constexpr float kOne = 1.0f;
  return kernels::CopyToDevice(one.data(), &kOne, kFloatBytes, stream);
}

Status CudaDecoder::State::CheckRow(const CudaDecodeRow& row) const {
  INTARSIA_RETURN_IF_ERROR(kernels::CheckSampleRule(row.rule));
  if (row.kv == nullptr || row.token < 0 || row.token >= transformer->config().vocab_size ||
      row.position < 0 || row.position >= options.num_tokens_max ||
      row.position >= row.kv->capacity()) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda decoder: row out of range: token=" + std::to_string(row.token) +
                      " position=" + std::to_string(row.position) +
                      " num_tokens_max=" + std::to_string(options.num_tokens_max));
  }
  return Status::Ok();
}

Status CudaDecoder::Begin(std::span<const CudaDecodeRow> rows) {
  State& state = *state_;
  if (rows.empty() || rows.size() > static_cast<size_t>(state.options.batch_max)) {
    return Status(StatusCode::kInvalidArgument,
                  "cuda decoder: number of rows out of range: rows=" + std::to_string(rows.size()) +
                      " max=" + std::to_string(state.options.batch_max));
  }
  for (const CudaDecodeRow& row : rows) INTARSIA_RETURN_IF_ERROR(state.CheckRow(row));
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state.transformer->device()));
  INTARSIA_RETURN_IF_ERROR(state.batch_copied.Wait());
  const int64_t batch_max = state.options.batch_max;
  const BatchArrays staged(state.staged_batch.data(), batch_max);
  state.num_rows = static_cast<int64_t>(rows.size());
  state.max_position = 0;
  state.steps_left = state.options.num_tokens_max;
  state.has_stepped = false;
  for (int64_t i = 0; i < batch_max; ++i) {
    // Rows beyond the batch repeat the first one: they compute the same and write the same.
    const CudaDecodeRow& row = rows[i < state.num_rows ? static_cast<size_t>(i) : 0];
    staged.tokens[i] = row.token;
    staged.positions[i] = row.position;
    staged.rules[i] = row.rule;
    const auto num_pages =
        std::min(static_cast<int64_t>(row.kv->pages().size()), state.table_width);
    int32_t* const table = staged.page_tables + i * state.table_width;
    std::copy_n(row.kv->pages().data(), num_pages, table);
    std::fill(table + num_pages, table + state.table_width, 0);
    const int64_t capacity = std::min(row.kv->capacity(), state.options.num_tokens_max);
    state.max_position = std::max<int64_t>(state.max_position, row.position);
    state.steps_left = std::min(state.steps_left, capacity - row.position);
  }
  INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(state.batch.data(), state.staged_batch.data(),
                                                 state.staged_batch.num_bytes(), state.stream));
  return state.batch_copied.Record(state.stream);
}

Status CudaDecoder::State::Observe(int32_t layer, int64_t bound) {
  const ModelConfig& config = transformer->config();
  const CudaRows rows = forward->rows();
  const BatchArrays arrays(batch.data(), options.batch_max);
  kernels::AttentionMassCudaParams params = {
      .rows = {.layer = pool->layer(layer, arrays.page_tables, bound),
               .q = rows.q,
               .positions = rows.positions,
               .num_rows = 1,
               .max_position = bound - 1,
               .num_heads = config.num_heads,
               .scale = config.attention_scale,
               .window = config.has_window(layer) ? config.sliding_window : 0,
               .logit_softcap = config.attention_logit_softcap},
      .weights = one.as<float>(),
      .lse = lse.as<float>(),
      .mass = mass.as<float>(),
      .num_keys = bound};
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_bytes, kernels::AttentionMassWorkspaceBytes(params));
  if (num_bytes > mass_workspace.num_bytes()) {
    INTARSIA_ASSIGN_OR_RETURN(mass_workspace, kernels::DeviceBuffer::Allocate(num_bytes, stream));
  }
  params.rows.workspace = mass_workspace.data();
  params.rows.workspace_bytes = mass_workspace.num_bytes();
  return kernels::AttentionMassCuda(params, stream);
}

Status CudaDecoder::State::EnqueueLayers(int64_t bound) {
  for (int32_t layer = 0; layer < transformer->config().num_layers; ++layer) {
    if (!is_observed(layer)) {
      INTARSIA_RETURN_IF_ERROR(forward->RunLayer(layer));
      continue;
    }
    INTARSIA_RETURN_IF_ERROR(forward->ComputeQkv(layer));
    INTARSIA_RETURN_IF_ERROR(forward->PlaceKv(layer));
    INTARSIA_RETURN_IF_ERROR(forward->Attend(layer, lse.as<float>()));
    INTARSIA_RETURN_IF_ERROR(Observe(layer, bound));
    INTARSIA_RETURN_IF_ERROR(forward->RunFfn(layer));
  }
  return Status::Ok();
}

// Enqueues the work of a step, which is the same for every step of a shape.
Status CudaDecoder::State::Enqueue(const Shape& shape) {
  const BatchArrays arrays(batch.data(), options.batch_max);
  INTARSIA_RETURN_IF_ERROR(forward->BeginBatch({.pool = pool,
                                                .tokens = arrays.tokens,
                                                .positions = arrays.positions,
                                                .page_tables = arrays.page_tables,
                                                .page_table_stride = table_width,
                                                .num_rows = shape.num_rows,
                                                .max_position = shape.bound - 1}));
  const int64_t mass_bytes = shape.bound * kFloatBytes;
  if (options.first_observed_layer.has_value()) {
    INTARSIA_RETURN_IF_ERROR(kernels::FillDevice(mass.data(), 0, mass_bytes, stream));
  }
  INTARSIA_RETURN_IF_ERROR(EnqueueLayers(shape.bound));
  if (options.first_observed_layer.has_value()) {
    INTARSIA_RETURN_IF_ERROR(
        kernels::CopyToHost(attention.data(), mass.data(), mass_bytes, stream));
  }
  INTARSIA_RETURN_IF_ERROR(forward->ComputeLogits(shape.num_rows));
  INTARSIA_RETURN_IF_ERROR(kernels::SampleRowsCuda({.logits = forward->logits(),
                                                    .stride = forward->logit_stride(),
                                                    .rules = arrays.rules,
                                                    .steps = arrays.positions,
                                                    .tokens = arrays.tokens,
                                                    .next_steps = arrays.positions,
                                                    .num_rows = shape.num_rows,
                                                    .vocab_size = transformer->config().vocab_size},
                                                   stream));
  return kernels::CopyToHost(drawn.data(), arrays.tokens, shape.num_rows * kNumberBytes, stream);
}

Status CudaDecoder::State::Run(const Shape& shape) {
  const auto [entry, is_new] = recordings.try_emplace(shape);
  if (is_new) {
    // The first step chooses plans, loads kernels and takes scratch memory, which a recording may
    // not do.
    const int64_t num_bytes = scratch_bytes();
    const Status enqueued = Enqueue(shape);
    if (!enqueued.ok()) recordings.erase(entry);
    if (scratch_bytes() != num_bytes) {
      // The scratch memory that other graphs name has been given back.
      for (auto& [other, recording] : recordings) recording.graph.reset();
    }
    return enqueued;
  }
  Recording& recording = entry->second;
  if (recording.graph == nullptr && !recording.is_refused) {
    Result<kernels::DeviceGraph> graph =
        kernels::DeviceGraph::Record(stream, [&] { return Enqueue(shape); });
    if (graph.ok()) {
      recording.graph = std::make_unique<kernels::DeviceGraph>(*std::move(graph));
    } else {
      // A device that has failed says so again below.
      recording.is_refused = true;
      Log(LogLevel::kWarning,
          "decoding is launched kernel by kernel: " + graph.status().ToString());
    }
  }
  return recording.graph != nullptr ? recording.graph->Launch(stream) : Enqueue(shape);
}

Status CudaDecoder::Step() {
  State& state = *state_;
  INTARSIA_CHECK(state.num_rows > 0);
  if (state.steps_left < 1) {
    return Status(StatusCode::kResourceExhausted,
                  "cuda decoder: a request has no page for its next position: max_position=" +
                      std::to_string(state.max_position) +
                      " num_tokens_max=" + std::to_string(state.options.num_tokens_max));
  }
  const State::Shape shape{
      .num_rows = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(state.num_rows))),
      .bound = BoundFor(state.max_position + 1)};
  INTARSIA_RETURN_IF_ERROR(state.Run(shape));
  state.last_bound = shape.bound;
  INTARSIA_RETURN_IF_ERROR(state.step_done.Record(state.stream));
  state.has_stepped = true;
  ++state.max_position;
  --state.steps_left;
  return Status::Ok();
}

Result<std::span<const int32_t>> CudaDecoder::Wait() {
  State& state = *state_;
  INTARSIA_CHECK(state.has_stepped);
  INTARSIA_RETURN_IF_ERROR(state.step_done.Wait());
  return std::span<const int32_t>(state.drawn.as<int32_t>(), static_cast<size_t>(state.num_rows));
}

std::span<const float> CudaDecoder::attention() const {
  const State& state = *state_;
  if (!state.options.first_observed_layer.has_value()) return {};
  return {state.attention.as<float>(), static_cast<size_t>(state.last_bound)};
}

}  // namespace intarsia::model
