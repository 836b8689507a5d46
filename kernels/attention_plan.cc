#include "kernels/attention_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace intarsia::kernels {
namespace {

// With fewer tiles than this the keys are cut too, so that a single row keeps every core busy; but
// not into parts so short that merging them would show.
constexpr int64_t kItemsWanted = 32;
constexpr int64_t kSplitKeysMin = 512;

constexpr int32_t kHeadsMax = 1 << 16;
constexpr int64_t kRowsMax = int64_t{1} << 31;

Status Invalid(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

Status CheckPositions(const AttentionRowsParams& params) {
  int32_t last = 0;
  for (int64_t row = 0; row < params.num_rows; ++row) {
    const int32_t position = params.positions[row];
    if (position < 0 || position >= params.layer.capacity) {
      return Invalid("position is outside of the kv layer: row=" + std::to_string(row) +
                     " position=" + std::to_string(position) +
                     " capacity=" + std::to_string(params.layer.capacity));
    }
    if (position < last) {
      return Invalid("positions are not sorted: row=" + std::to_string(row) +
                     " position=" + std::to_string(position) + " previous=" + std::to_string(last));
    }
    last = position;
  }
  return Status::Ok();
}

}  // namespace

Status CheckAttentionRows(const AttentionRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckKvLayer(params.layer));
  if (params.num_rows < 0 || params.num_rows > kRowsMax) {
    return Invalid("number of rows is out of range: num_rows=" + std::to_string(params.num_rows));
  }
  if (params.num_heads < 1 || params.num_heads > kHeadsMax ||
      params.num_heads % params.layer.num_kv_heads != 0) {
    return Invalid("num_heads is not a multiple of num_kv_heads: num_heads=" +
                   std::to_string(params.num_heads) +
                   " num_kv_heads=" + std::to_string(params.layer.num_kv_heads));
  }
  if (!std::isfinite(params.scale)) return Invalid("scale of the scores is not finite");
  if (params.window < 0) {
    return Invalid("window is negative: window=" + std::to_string(params.window));
  }
  if (!std::isfinite(params.logit_softcap) || params.logit_softcap < 0.0F) {
    return Invalid("softcap is not a number >= 0: logit_softcap=" +
                   std::to_string(params.logit_softcap));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (params.q == nullptr || params.positions == nullptr) {
    return Invalid("rows have no data: q or positions is null");
  }
  return CheckPositions(params);
}

Status CheckAttentionMass(const AttentionMassParams& params) {
  const AttentionRowsParams& rows = params.rows;
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRows(rows));
  if (rows.num_rows == 0) return Status::Ok();
  if (params.weights == nullptr || params.mass == nullptr) {
    return Invalid("attention mass has no data: weights or mass is null");
  }
  if (params.num_keys <= rows.positions[rows.num_rows - 1]) {
    return Invalid("attention mass is shorter than what is attended to: num_keys=" +
                   std::to_string(params.num_keys) +
                   " largest position=" + std::to_string(rows.positions[rows.num_rows - 1]));
  }
  return Status::Ok();
}

AttentionPlan PlanAttention(const AttentionRowsParams& params, int64_t num_rows, int64_t num_keys,
                            int64_t tile_queries) {
  AttentionPlan plan;
  plan.group_size = params.num_heads / params.layer.num_kv_heads;
  const int64_t rows_max = std::max<int64_t>(1, tile_queries / plan.group_size);
  plan.num_tiles = (num_rows + rows_max - 1) / rows_max;
  plan.tile_rows = (num_rows + plan.num_tiles - 1) / plan.num_tiles;
  plan.num_tiles = (num_rows + plan.tile_rows - 1) / plan.tile_rows;
  // Four vectors of a wide head lie 1 KiB apart from key to key and reach few sets of the L1 cache.
  plan.block_keys = params.layer.head_dim > 128 ? 64 : 128;
  if (params.window > 0) num_keys = std::min<int64_t>(num_keys, params.window + plan.tile_rows);
  const int64_t num_items = plan.num_tiles * params.layer.num_kv_heads;
  plan.num_splits = std::max<int64_t>(
      1, std::min(kItemsWanted / num_items, (num_keys + kSplitKeysMin - 1) / kSplitKeysMin));
  return plan;
}

}  // namespace intarsia::kernels
