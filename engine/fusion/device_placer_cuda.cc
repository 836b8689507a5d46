#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "engine/fusion/device_placer.h"
#include "kernels/value_deviation.h"

namespace intarsia::engine {
namespace {

kernels::ShiftKernel ToShiftKernel(const PropagationKernel& kernel) {
  return {.a = static_cast<float>(kernel.a),
          .t1 = static_cast<float>(kernel.t1),
          .b = static_cast<float>(kernel.b),
          .t2 = static_cast<float>(kernel.t2),
          .c = static_cast<float>(kernel.c),
          .c0 = static_cast<float>(kernel.c0),
          .noise = static_cast<float>(kernel.noise)};
}

bool IsShiftable(const Segment& segment) {
  return segment.cached != nullptr && !segment.is_exact && segment.size() > 0;
}

}  // namespace

Result<std::unique_ptr<DevicePlacer>> DevicePlacer::Create(const Prompt& prompt,
                                                           const DeviceLoader& loader,
                                                           const Target& target) {
  std::unique_ptr<DevicePlacer> placer(new DevicePlacer(prompt, loader, target));
  for (const Segment& segment : prompt.segments()) {
    kernels::PlacedSegment& placed = placer->segments_.emplace_back();
    if (segment.cached == nullptr || segment.size() == 0) continue;
    INTARSIA_ASSIGN_OR_RETURN(
        placed,
        kernels::MakePlacedSegment(segment.cached->type(), static_cast<int32_t>(segment.begin),
                                   static_cast<int32_t>(segment.size()), target.kv_size));
  }
  return placer;
}

DevicePlacer::~DevicePlacer() { WaitForWeights().IgnoreError(); }

Status DevicePlacer::WaitForWeights() {
  if (!is_solving_) return Status::Ok();
  is_solving_ = false;
  return solved_->HoldBack(target_.stream);
}

std::vector<DevicePlacer::TileRun> DevicePlacer::AddTiles(std::span<const uint8_t> wanted) {
  std::map<KvPayloadType, std::vector<kernels::PlaceTile>> by_type;
  for (const kernels::PlaceTile& tile : kernels::MakePlaceTiles(segments_, wanted)) {
    by_type[segments_[static_cast<size_t>(tile.segment)].type].push_back(tile);
  }
  std::vector<TileRun> runs;
  for (const auto& [type, tiles] : by_type) {
    runs.push_back({.type = type,
                    .tiles = tables_.Add<kernels::PlaceTile>(tiles),
                    .num_tiles = static_cast<int32_t>(tiles.size())});
  }
  return runs;
}

// The chunks that a shift is passed on to, with `rows` as what they measure it by.
Result<kernels::PropagationLayout> DevicePlacer::LayOut(std::span<const int32_t> rows) {
  std::vector<int32_t> indices;
  std::vector<int32_t> num_tokens;
  std::vector<int32_t> num_rows;
  for (size_t index = 0; index < segments_.size(); ++index) {
    const Segment& segment = prompt_.segments()[index];
    if (!IsShiftable(segment)) continue;
    const auto first = std::lower_bound(rows.begin(), rows.end(), segment.begin);
    const auto last = std::lower_bound(first, rows.end(), segment.end);
    indices.push_back(static_cast<int32_t>(index));
    num_tokens.push_back(static_cast<int32_t>(segment.size()));
    num_rows.push_back(static_cast<int32_t>(last - first));
  }
  kernels::PropagationLayout layout;
  INTARSIA_RETURN_IF_ERROR(kernels::MakePropagationLayout(indices, num_tokens, num_rows, &layout));
  INTARSIA_CHECK(layout.num_rows == std::ssize(rows));
  for (const kernels::PropagationChunk& chunk : layout.chunks) {
    kernels::PlacedSegment& placed = segments_[static_cast<size_t>(chunk.segment)];
    placed.num_deltas = chunk.num_rows + 1;
    placed.first_delta = chunk.first_delta;
    placed.weights_stride = chunk.weights_stride;
    placed.first_weight = chunk.first_weight;
  }
  return layout;
}

// `rows` lie in the order of the chunks, as positions ascend.
void DevicePlacer::AddRows(std::span<const int32_t> positions, std::span<const int32_t> rows,
                           const kernels::PropagationLayout& layout) {
  std::vector<int32_t> tokens(rows.begin(), rows.end());
  std::vector<int32_t> pass_rows;
  for (const kernels::PropagationChunk& chunk : layout.chunks) {
    const int32_t begin = segments_[static_cast<size_t>(chunk.segment)].begin;
    for (int32_t s = 0; s < chunk.num_rows; ++s) {
      tokens[static_cast<size_t>(chunk.first_row + s)] -= begin;
    }
  }
  const auto index_in = [](std::span<const int32_t> sorted, int32_t position) {
    const auto at = std::ranges::lower_bound(sorted, position);
    const bool is_there = at != sorted.end() && *at == position;
    return is_there ? static_cast<int32_t>(at - sorted.begin()) : -1;
  };
  for (size_t index = 0; index < layout.chunks.size(); ++index) {
    const kernels::PropagationChunk& chunk = layout.chunks[index];
    for (int32_t s = 0; s < chunk.num_rows; ++s) {
      const int32_t position = rows[static_cast<size_t>(chunk.first_row + s)];
      const int32_t kept = index_in(kept_rows_, position);
      const int32_t row = index_in(positions, position);
      INTARSIA_CHECK(kept >= 0 || row >= 0);
      // Behind the kept rows of each chunk stands their sum.
      pass_rows.push_back(kept >= 0 ? ~(kept + static_cast<int32_t>(index)) : row);
    }
  }
  rows_at_ = tables_.Add<int32_t>(tokens);
  pass_rows_at_ = tables_.Add<int32_t>(pass_rows);
}

Status DevicePlacer::BeginPass(std::span<const int32_t> positions, std::span<const int32_t> rows,
                               PropagationMode mode, Rows kind) {
  INTARSIA_RETURN_IF_ERROR(WaitForWeights());
  tables_ = DeviceTables();
  for (kernels::PlacedSegment& segment : segments_) segment.num_deltas = 0;
  kernels::PropagationLayout layout;
  const bool is_shifting = mode != PropagationMode::kOff && !rows.empty();
  if (is_shifting) {
    INTARSIA_ASSIGN_OR_RETURN(layout, LayOut(rows));
    AddRows(positions, rows, layout);
  }
  num_chunks_ = static_cast<int32_t>(layout.chunks.size());
  std::vector<uint8_t> is_row(static_cast<size_t>(prompt_.num_tokens()));
  for (const int32_t position : positions) is_row[static_cast<size_t>(position)] = 1;
  for (const int32_t position : kept_rows_) is_row[static_cast<size_t>(position)] = 1;
  std::vector<uint8_t> is_cached;
  std::vector<uint8_t> is_shifted;
  for (const kernels::PlacedSegment& segment : segments_) {
    is_cached.push_back(segment.num_tokens > 0);
    is_shifted.push_back(segment.num_deltas > 0);
  }
  segments_at_ = tables_.Add<kernels::PlacedSegment>(segments_);
  is_row_at_ = tables_.Add<uint8_t>(is_row);
  all_tiles_ = AddTiles(is_cached);
  shifted_tiles_ = AddTiles(is_shifted);
  chunks_at_ = tables_.Add<kernels::PropagationChunk>(layout.chunks);
  weigh_tiles_at_ = tables_.Add<kernels::PropagationTile>(layout.tiles);
  INTARSIA_RETURN_IF_ERROR(tables_.Upload(target_.arena, target_.stream));
  is_keeping_ = kind == Rows::kKept && is_shifting;
  if (is_keeping_) {
    kept_rows_.assign(rows.begin(), rows.end());
    num_kept_deltas_ = layout.num_rows + num_chunks_;
    for (kernels::DeviceBuffer& deltas : kept_deltas_) {
      INTARSIA_ASSIGN_OR_RETURN(
          deltas, kernels::DeviceBuffer::Allocate(
                      target_.num_layers * num_kept_deltas_ * target_.kv_size * 2, target_.stream));
    }
  }
  return is_shifting ? Solve(layout, mode) : Status::Ok();
}

uint16_t* DevicePlacer::KeptDeltas(int half, int32_t layer) const {
  return kept_deltas_[half].num_bytes() == 0
             ? nullptr
             : kept_deltas_[half].as<uint16_t>() + layer * num_kept_deltas_ * target_.kv_size;
}

uint16_t* DevicePlacer::Deltas(int half, int32_t layer) const {
  return is_keeping_ ? KeptDeltas(half, layer) : deltas_[half].as<uint16_t>();
}

Status DevicePlacer::Solve(const kernels::PropagationLayout& layout, PropagationMode mode) {
  order_ = mode == PropagationMode::kCausal ? kernels::PropagationOrder::kCausal
                                            : kernels::PropagationOrder::kTwoSided;
  const auto allocate = [this](int64_t num_bytes, kernels::DeviceBuffer* buffer) {
    INTARSIA_ASSIGN_OR_RETURN(*buffer, kernels::DeviceBuffer::Allocate(num_bytes, target_.stream));
    return Status::Ok();
  };
  for (int half = 0; half < 2; ++half) {
    INTARSIA_RETURN_IF_ERROR(allocate(layout.num_weights * 2, &weights_[half]));
    INTARSIA_RETURN_IF_ERROR(allocate(layout.num_rows * 4, &u_[half]));
    INTARSIA_RETURN_IF_ERROR(
        allocate((layout.num_rows + num_chunks_) * target_.kv_size * 2, &deltas_[half]));
  }
  INTARSIA_RETURN_IF_ERROR(allocate(kernels::PropagationWorkspaceBytes(layout), &solve_workspace_));
  const int64_t measure_bytes = kernels::MeasureShiftWorkspaceBytes(num_chunks_, target_.kv_size);
  INTARSIA_RETURN_IF_ERROR(allocate(measure_bytes, &measure_workspace_));
  INTARSIA_RETURN_IF_ERROR(
      kernels::FillDevice(measure_workspace_.data(), 0, measure_bytes, target_.stream));
  for (std::optional<kernels::DeviceEvent>* event : {&tables_there_, &solved_}) {
    if (event->has_value()) continue;
    INTARSIA_ASSIGN_OR_RETURN(*event, kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
  }
  INTARSIA_RETURN_IF_ERROR(tables_there_->Record(target_.stream));
  INTARSIA_RETURN_IF_ERROR(tables_there_->HoldBack(target_.solving));
  INTARSIA_RETURN_IF_ERROR(solve_span_.Begin(target_.solving));
  is_solving_ = true;
  const Status status = kernels::PropagationWeightsCuda(
      {.chunks = tables_.At<kernels::PropagationChunk>(chunks_at_),
       .tiles = tables_.At<kernels::PropagationTile>(weigh_tiles_at_),
       .rows = tables_.At<int32_t>(rows_at_),
       .key = ToShiftKernel(kKeyKernel),
       .value = ToShiftKernel(kValueKernel),
       .order = order_,
       .key_weights = weights_[0].as<uint16_t>(),
       .value_weights = weights_[1].as<uint16_t>(),
       .key_u = u_[0].as<float>(),
       .value_u = u_[1].as<float>(),
       .workspace = solve_workspace_.as<float>(),
       .num_chunks = num_chunks_,
       .num_tiles = static_cast<int32_t>(layout.tiles.size()),
       .num_rows_max = layout.num_rows_max,
       .num_rows = layout.num_rows,
       .num_factors = layout.num_factors},
      target_.solving);
  INTARSIA_RETURN_IF_ERROR(solve_span_.End(target_.solving));
  INTARSIA_RETURN_IF_ERROR(solved_->Record(target_.solving));
  return status;
}

Status DevicePlacer::Measure(int32_t layer, const model::CudaRows& rows) {
  return kernels::MeasureShiftCuda({.chunks = tables_.At<kernels::PropagationChunk>(chunks_at_),
                                    .segments = tables_.At<kernels::PlacedSegment>(segments_at_),
                                    .payloads = loader_.payloads(layer),
                                    .rows = tables_.At<int32_t>(rows_at_),
                                    .pass_rows = tables_.At<int32_t>(pass_rows_at_),
                                    .k = rows.k,
                                    .v = rows.v,
                                    .k_stride = rows.kv_stride,
                                    .v_stride = rows.kv_stride,
                                    .known_key_deltas = KeptDeltas(0, layer),
                                    .known_value_deltas = KeptDeltas(1, layer),
                                    .key_u = u_[0].as<float>(),
                                    .value_u = u_[1].as<float>(),
                                    .key_deltas = Deltas(0, layer),
                                    .value_deltas = Deltas(1, layer),
                                    .workspace = measure_workspace_.as<float>(),
                                    .order = order_,
                                    .num_chunks = num_chunks_,
                                    .width = target_.kv_size},
                                   target_.stream);
}

kernels::PlaceKvParams DevicePlacer::ParamsOf(int32_t layer,
                                              const kernels::RopeDigits& rope) const {
  return {.layer = target_.kv->layer(layer),
          .segments = tables_.At<kernels::PlacedSegment>(segments_at_),
          .payloads = loader_.payloads(layer),
          .is_row = tables_.At<uint8_t>(is_row_at_),
          .rope = rope,
          .num_segments = static_cast<int32_t>(segments_.size())};
}

Status DevicePlacer::PlaceRuns(std::span<const TileRun> runs, kernels::PlaceKvParams params,
                               kernels::Stream stream) const {
  for (const TileRun& run : runs) {
    params.type = run.type;
    params.tiles = tables_.At<kernels::PlaceTile>(run.tiles);
    params.num_tiles = run.num_tiles;
    INTARSIA_RETURN_IF_ERROR(kernels::PlaceKvCuda(params, stream));
  }
  return Status::Ok();
}

Status DevicePlacer::Place(int32_t layer, Scope scope, const kernels::RopeDigits& rope,
                           const model::CudaRows* rows) {
  kernels::PlaceKvParams params = ParamsOf(layer, rope);
  if (rows != nullptr && num_chunks_ > 0) {
    INTARSIA_RETURN_IF_ERROR(WaitForWeights());
    INTARSIA_RETURN_IF_ERROR(Measure(layer, *rows));
    params.key_weights = weights_[0].as<uint16_t>();
    params.value_weights = weights_[1].as<uint16_t>();
    params.key_deltas = Deltas(0, layer);
    params.value_deltas = Deltas(1, layer);
  }
  return PlaceRuns(scope == Scope::kAll ? all_tiles_ : shifted_tiles_, params, target_.stream);
}

Status DevicePlacer::MeasureDeviation(int32_t layer, std::span<const int32_t> positions,
                                      const model::CudaRows& rows, float* deviation) {
  std::vector<int32_t> row_segments;
  const std::span<const Segment> segments = prompt_.segments();
  size_t index = 0;
  for (const int32_t position : positions) {
    while (index < segments.size() && segments[index].end <= position) ++index;
    // The question lies behind all segments.
    const bool is_measured = index < segments.size() && IsShiftable(segments[index]);
    row_segments.push_back(is_measured ? static_cast<int32_t>(index) : -1);
  }
  DeviceTables tables;
  const auto row_segments_at = tables.Add<int32_t>(row_segments);
  INTARSIA_RETURN_IF_ERROR(tables.Upload(target_.arena, target_.stream));
  return kernels::ValueDeviationCuda({.segments = tables_.At<kernels::PlacedSegment>(segments_at_),
                                      .payloads = loader_.payloads(layer),
                                      .positions = rows.positions,
                                      .row_segments = tables.At<int32_t>(row_segments_at),
                                      .v = rows.v,
                                      .v_stride = rows.kv_stride,
                                      .deviation = deviation,
                                      .num_rows = rows.num_rows,
                                      .num_segments = static_cast<int32_t>(segments_.size()),
                                      .width = target_.kv_size},
                                     target_.stream);
}

Status DevicePlacer::PlaceAhead(int32_t layer, const kernels::RopeDigits& rope,
                                kernels::Stream stream) {
  return PlaceRuns(all_tiles_, ParamsOf(layer, rope), stream);
}

}  // namespace intarsia::engine
