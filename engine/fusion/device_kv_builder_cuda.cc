#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "engine/fusion/device_kv_builder.h"
#include "engine/fusion/device_tables.h"
#include "kernels/convert.h"
#include "kernels/device.h"
#include "kernels/kv_codec.h"
#include "kernels/paged_kv.h"
#include "model/cuda_forward.h"

namespace intarsia::engine {
namespace {

// Passes have working memory for a multiple of so many rows.
constexpr int64_t kRowsStep = 512;
// Layers whose keys and values are on their way at once.
constexpr int32_t kSlots = 2;
constexpr auto kBf16Bytes = static_cast<int64_t>(sizeof(uint16_t));

// A layer's keys and values on their way to the host.
struct Slot {
  kernels::DeviceBuffer rows;   // [2, num_rows, kv_size]: keys, values
  kernels::PinnedBuffer host;   // the same
  kernels::DeviceEvent taken;   // from the pass, on the computing stream
  kernels::DeviceEvent copied;  // to the host, on the copying stream

  Slot(kernels::DeviceEvent taken_event, kernels::DeviceEvent copied_event)
      : taken(std::move(taken_event)), copied(std::move(copied_event)) {}
};

}  // namespace

struct DeviceKvBuilder::State {
  State(const model::CudaTransformer& used_transformer, model::DeviceKvPool* used_pages,
        ThreadPool* used_threads, kernels::DeviceStream compute_stream,
        kernels::DeviceStream copy_stream)
      : transformer(used_transformer),
        pages(used_pages),
        threads(used_threads),
        compute(std::move(compute_stream)),
        copy(std::move(copy_stream)) {}

  // Makes room for a pass of `num_rows` rows.
  Status Reserve(int64_t num_rows);

  const model::CudaTransformer& transformer;
  model::DeviceKvPool* const pages;
  ThreadPool* const threads;
  // The streams come first: memory is given back on them.
  kernels::DeviceStream compute;
  kernels::DeviceStream copy;
  PinnedArena arena;  // of the pass at hand
  std::vector<Slot> slots;
  std::unique_ptr<model::CudaForward> forward;
  int64_t num_rows_max = 0;
};

Status DeviceKvBuilder::State::Reserve(int64_t num_rows) {
  if (num_rows <= num_rows_max) return Status::Ok();
  num_rows_max = 0;
  forward.reset();
  const int64_t wanted = (num_rows + kRowsStep - 1) / kRowsStep * kRowsStep;
  INTARSIA_ASSIGN_OR_RETURN(
      forward, model::CudaForward::Create(transformer, {.num_rows_max = wanted}, compute.get()));
  const int64_t num_bytes = 2 * wanted * transformer.config().kv_size() * kBf16Bytes;
  for (Slot& slot : slots) {
    INTARSIA_ASSIGN_OR_RETURN(slot.rows, kernels::DeviceBuffer::Allocate(num_bytes, compute.get()));
    INTARSIA_ASSIGN_OR_RETURN(slot.host, kernels::PinnedBuffer::Allocate(num_bytes));
  }
  num_rows_max = wanted;
  return Status::Ok();
}

// One pass.
class DeviceKvBuilder::Pass {
 public:
  Pass(State* state, const KvRuns& runs)
      : state_(*state), config_(state->transformer.config()), runs_(runs) {}

  Result<std::vector<std::unique_ptr<MemoryKv>>> Run();

 private:
  kernels::Stream stream() const { return state_.compute.get(); }
  int64_t header_size() const { return std::ssize(runs_.header); }
  Slot& SlotOf(int32_t layer) { return state_.slots[static_cast<size_t>(layer % kSlots)]; }

  Status CountRows();
  // Lays out rows and pages and starts the pass.
  Status Begin();
  Status EnqueueLayer(int32_t layer);
  // Waits for a layer's keys and values and encodes them.
  Status Encode(int32_t layer);
  Status EncodeRun(int32_t layer, size_t run, std::vector<float>* scratch);

  State& state_;
  const model::ModelConfig& config_;
  const KvRuns& runs_;
  int64_t num_rows_ = 0;
  int64_t num_pages_ = 0;
  int64_t pages_max_ = 0;                         // of a run
  std::vector<model::CudaRequestRows> requests_;  // one a run
  std::vector<int64_t> first_rows_;               // of each run, behind the header's
  std::unique_ptr<model::DeviceKv> kv_;           // the pages of all runs
  DeviceTables tables_;
  std::vector<std::vector<std::vector<uint8_t>>> payloads_;  // [run][layer]
};

Status DeviceKvBuilder::Pass::CountRows() {
  for (const std::span<const int32_t> run : runs_.runs) {
    const int64_t size = header_size() + std::ssize(run);
    if (run.empty() || size > model::kCudaPositionsMax ||
        num_rows_ > model::kCudaPositionsMax - size) {
      return Status(StatusCode::kInvalidArgument,
                    "caches of no tokens or of too many: tokens=" + std::to_string(run.size()) +
                        " rows=" + std::to_string(num_rows_));
    }
    first_rows_.push_back(num_rows_ + header_size());
    requests_.push_back({.num_rows = size, .max_position = size - 1});
    num_rows_ += size;
    num_pages_ += kernels::NumPagesFor(size);
    pages_max_ = std::max(pages_max_, kernels::NumPagesFor(size));
  }
  return Status::Ok();
}

Status DeviceKvBuilder::Pass::Begin() {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<int32_t> page_tables;
  auto pages = kv_->pages();
  for (const std::span<const int32_t> run : runs_.runs) {
    const int64_t size = header_size() + std::ssize(run);
    tokens.insert(tokens.end(), runs_.header.begin(), runs_.header.end());
    tokens.insert(tokens.end(), run.begin(), run.end());
    const auto num_pages = static_cast<size_t>(kernels::NumPagesFor(size));
    for (int32_t position = 0; position < size; ++position) {
      positions.push_back(position);
      page_tables.insert(page_tables.end(), pages.begin(),
                         pages.begin() + static_cast<std::ptrdiff_t>(num_pages));
      page_tables.resize(positions.size() * static_cast<size_t>(pages_max_), 0);
    }
    pages = pages.subspan(num_pages);
  }
  const auto is_foreign = [this](int32_t token) {
    return token < 0 || token >= config_.vocab_size;
  };
  if (std::ranges::any_of(tokens, is_foreign)) {
    return Status(StatusCode::kInvalidArgument, "a token is not in the vocabulary");
  }
  const auto tokens_at = tables_.Add<int32_t>(tokens);
  const auto positions_at = tables_.Add<int32_t>(positions);
  const auto page_tables_at = tables_.Add<int32_t>(page_tables);
  INTARSIA_RETURN_IF_ERROR(tables_.Upload(&state_.arena, stream()));
  return state_.forward->BeginBatch({.pool = state_.pages,
                                     .tokens = tables_.At<int32_t>(tokens_at),
                                     .positions = tables_.At<int32_t>(positions_at),
                                     .page_tables = tables_.At<int32_t>(page_tables_at),
                                     .page_table_stride = pages_max_,
                                     .num_rows = num_rows_,
                                     .max_position = pages_max_ * kernels::kPageTokens - 1,
                                     .requests = requests_});
}

Status DeviceKvBuilder::Pass::EnqueueLayer(int32_t layer) {
  INTARSIA_RETURN_IF_ERROR(state_.forward->ComputeQkv(layer));
  Slot& slot = SlotOf(layer);
  // What the slot held was encoded, and so copied.
  const model::CudaRows rows = state_.forward->rows();
  const int64_t row_bytes = config_.kv_size() * kBf16Bytes;
  auto* const target = slot.rows.as<uint8_t>();
  for (const auto& [half, source] :
       {std::pair(int64_t{0}, rows.k), std::pair(int64_t{1}, rows.v)}) {
    INTARSIA_RETURN_IF_ERROR(
        kernels::CopyRowsOnDevice({.target = target + half * num_rows_ * row_bytes,
                                   .target_stride = row_bytes,
                                   .source = source,
                                   .source_stride = rows.kv_stride * kBf16Bytes,
                                   .row_bytes = row_bytes,
                                   .num_rows = num_rows_},
                                  stream()));
  }
  INTARSIA_RETURN_IF_ERROR(slot.taken.Record(stream()));
  const kernels::Stream copy = state_.copy.get();
  INTARSIA_RETURN_IF_ERROR(slot.taken.HoldBack(copy));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToHost(slot.host.data(), slot.rows.data(), 2 * num_rows_ * row_bytes, copy));
  INTARSIA_RETURN_IF_ERROR(slot.copied.Record(copy));
  // Nothing comes behind the last layer's keys and values.
  if (layer + 1 == config_.num_layers) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(state_.forward->PlaceKv(layer));
  INTARSIA_RETURN_IF_ERROR(state_.forward->Attend(layer));
  return state_.forward->RunFfn(layer);
}

Status DeviceKvBuilder::Pass::EncodeRun(int32_t layer, size_t run, std::vector<float>* scratch) {
  const int64_t num_tokens = std::ssize(runs_.runs[run]);
  const int64_t width = config_.kv_size();
  const int64_t half = num_tokens * width;
  if (std::ssize(*scratch) < 2 * half) scratch->resize(static_cast<size_t>(2 * half));
  const auto* const rows = SlotOf(layer).host.as<uint16_t>();
  float* const k = scratch->data();
  kernels::Bf16ToF32(rows + first_rows_[run] * width, half, k);
  kernels::Bf16ToF32(rows + (num_rows_ + first_rows_[run]) * width, half, k + half);
  const int64_t num_bytes = kernels::KvPayloadBytes(runs_.type, num_tokens, width);
  std::vector<uint8_t>& payload = payloads_[run][static_cast<size_t>(layer)];
  payload.resize(static_cast<size_t>(std::max<int64_t>(0, num_bytes)));
  return EncodeCache({.type = runs_.type,
                      .k = k,
                      .v = k + half,
                      .num_tokens = num_tokens,
                      .width = width,
                      .payload = payload.data(),
                      .payload_bytes = num_bytes});
}

Status DeviceKvBuilder::Pass::Encode(int32_t layer) {
  INTARSIA_RETURN_IF_ERROR(SlotOf(layer).copied.Wait());
  std::vector<Status> statuses(runs_.runs.size());
  std::vector<std::vector<float>> scratches(static_cast<size_t>(state_.threads->num_threads()));
  state_.threads->ParallelFor(std::ssize(statuses), [&](int64_t run, int worker) {
    const auto index = static_cast<size_t>(run);
    statuses[index] = EncodeRun(layer, index, &scratches[static_cast<size_t>(worker)]);
  });
  for (const Status& status : statuses) INTARSIA_RETURN_IF_ERROR(status);
  return Status::Ok();
}

Result<std::vector<std::unique_ptr<MemoryKv>>> DeviceKvBuilder::Pass::Run() {
  INTARSIA_RETURN_IF_ERROR(CountRows());
  INTARSIA_RETURN_IF_ERROR(state_.Reserve(num_rows_));
  INTARSIA_ASSIGN_OR_RETURN(kv_,
                            state_.pages->Allocate(num_pages_ * kernels::kPageTokens, stream()));
  INTARSIA_RETURN_IF_ERROR(Begin());
  payloads_.resize(runs_.runs.size());
  for (auto& layers : payloads_) layers.resize(static_cast<size_t>(config_.num_layers));
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    if (runs_.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(runs_.cancel->Check());
    INTARSIA_RETURN_IF_ERROR(EnqueueLayer(layer));
    if (layer > 0) INTARSIA_RETURN_IF_ERROR(Encode(layer - 1));
  }
  INTARSIA_RETURN_IF_ERROR(Encode(config_.num_layers - 1));
  std::vector<std::unique_ptr<MemoryKv>> caches;
  for (size_t run = 0; run < payloads_.size(); ++run) {
    caches.push_back(std::make_unique<MemoryKv>(runs_.type, std::ssize(runs_.runs[run]),
                                                std::move(payloads_[run])));
  }
  return caches;
}

DeviceKvBuilder::DeviceKvBuilder(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceKvBuilder::~DeviceKvBuilder() = default;

Result<std::unique_ptr<DeviceKvBuilder>> DeviceKvBuilder::Create(
    const model::CudaTransformer& transformer, model::DeviceKvPool* pages, ThreadPool* threads) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  // Answers come first.
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream compute,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream copy,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  auto state =
      std::make_unique<State>(transformer, pages, threads, std::move(compute), std::move(copy));
  for (int32_t i = 0; i < kSlots; ++i) {
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent taken,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent copied,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    state->slots.emplace_back(std::move(taken), std::move(copied));
  }
  return std::unique_ptr<DeviceKvBuilder>(new DeviceKvBuilder(std::move(state)));
}

Result<std::vector<std::unique_ptr<MemoryKv>>> DeviceKvBuilder::Build(const KvRuns& runs) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(state_->transformer.device()));
  std::vector<std::unique_ptr<MemoryKv>> caches;
  size_t num_together = runs.runs.size();
  while (caches.size() < runs.runs.size()) {
    num_together = std::min(num_together, runs.runs.size() - caches.size());
    const auto begin = runs.runs.begin() + std::ssize(caches);
    KvRuns part = runs;
    part.runs.assign(begin, begin + static_cast<std::ptrdiff_t>(num_together));
    Result<std::vector<std::unique_ptr<MemoryKv>>> built = BuildTogether(part);
    if (built.status().code() == StatusCode::kResourceExhausted && num_together > 1) {
      num_together /= 2;
      continue;
    }
    INTARSIA_RETURN_IF_ERROR(built.status());
    std::ranges::move(*built, std::back_inserter(caches));
  }
  return caches;
}

Result<std::vector<std::unique_ptr<MemoryKv>>> DeviceKvBuilder::BuildTogether(const KvRuns& runs) {
  State& state = *state_;
  state.arena.Reset();
  Pass pass(&state, runs);
  Result<std::vector<std::unique_ptr<MemoryKv>>> built = pass.Run();
  // What is under way uses the pass's tables and pages, and the slots.
  const Status done = kernels::WaitFor(state.compute.get());
  const Status copied = kernels::WaitFor(state.copy.get());
  INTARSIA_RETURN_IF_ERROR(built.status());
  INTARSIA_RETURN_IF_ERROR(done);
  INTARSIA_RETURN_IF_ERROR(copied);
  return built;
}

}  // namespace intarsia::engine
