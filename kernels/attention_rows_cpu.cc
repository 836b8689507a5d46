// Bound: compute in prefill, 4 * head_dim flops for each visible key of each query; memory for a
// few rows, which read K and V once. Design: flash attention on tiles of about 48 queries that
// share a kv head, blocks of 128 keys, an online softmax whose stabiliser rarely moves; for a few
// rows the keys are cut into parts as well, merged by their log-sum-exp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/aligned_array.h"
#include "kernels/attention_ops.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_rows.h"
#include "kernels/attention_tile.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kTileQueries = 48;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What a worker needs for a tile, in one piece of memory, counted in floats.
struct TileScratch {
  float* queries;        // operands [num_queries, head_dim]
  float* scores;         // [num_queries, block_keys]
  float* probabilities;  // operands, the same shape; the scores themselves if these are f32
  float* output;         // [num_queries, head_dim]
  float* max;            // [num_queries], to a multiple of 16
  float* sum;            // [num_queries, 16]

  static int64_t NumFloats(const AttentionPlan& plan, int64_t head_dim) {
    const int64_t num_queries = plan.tile_rows * plan.group_size;
    return num_queries * (2 * head_dim + 2 * plan.block_keys + 16) + (num_queries + 15) / 16 * 16;
  }
  TileScratch(const AttentionPlan& plan, int64_t head_dim, int64_t operand_bytes, float* memory) {
    const int64_t num_queries = plan.tile_rows * plan.group_size;
    queries = memory;
    output = queries + num_queries * head_dim;
    scores = output + num_queries * head_dim;
    probabilities = scores + num_queries * plan.block_keys;
    sum = probabilities + num_queries * plan.block_keys;
    max = sum + num_queries * 16;
    if (operand_bytes == 4) probabilities = scores;
  }
};

// The state of every query after each part of its keys: [num_splits, num_rows, num_heads].
struct Partials {
  AlignedArray<float> output;  // [.., head_dim], not divided by `sum`
  AlignedArray<float> max;     // base 2
  AlignedArray<float> sum;
};

struct Call {
  const AttentionRowsParams& params;
  const AttentionOps& ops;
  AttentionPlan plan;
  Partials partials;  // empty with one split
};

// Runs a tile over blocks [begin, end) of its keys.
void RunBlocks(const Call& call, const AttentionTile& tile, const IndexRange& blocks,
               const TileScratch& scratch) {
  const int64_t head_dim = call.params.layer.head_dim;
  const int64_t stride = call.plan.block_keys;
  const IndexRange keys = tile.keys();
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t key = keys.begin + block * call.plan.block_keys;
    const int64_t num_keys = std::min(call.plan.block_keys, keys.end - key);
    const IndexRange queries = tile.Score(key, num_keys, scratch.scores, stride);
    if (queries.size() == 0) continue;
    void* const probabilities = reinterpret_cast<char*>(scratch.probabilities) +
                                queries.begin * stride * call.ops.operand_bytes;
    float* const output = scratch.output + queries.begin * head_dim;
    call.ops.softmax({.scores = scratch.scores + queries.begin * stride,
                      .scores_stride = stride,
                      .probabilities = probabilities,
                      .num_queries = queries.size(),
                      .num_keys = (num_keys + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens,
                      .max = scratch.max + queries.begin,
                      .sum = scratch.sum + queries.begin * kKvBlockTokens,
                      .output = output,
                      .head_dim = head_dim});
    call.ops.values({.probabilities = probabilities,
                     .probabilities_stride = stride,
                     .values = tile.ValuesFrom(key),
                     .num_queries = queries.size(),
                     .num_keys = num_keys,
                     .head_dim = head_dim,
                     .output = output,
                     .prefetch_keys = tile.prefetch_keys()});
  }
}

// Divides by the sum, or puts the state away to be merged.
void FinishTile(Call& call, const AttentionTile& tile, int64_t split, const TileScratch& scratch) {
  const int64_t head_dim = call.params.layer.head_dim;
  const int64_t num_states = call.params.num_rows * call.params.num_heads;
  for (int64_t query = 0; query < tile.num_queries(); ++query) {
    const int64_t offset = tile.HeadOffset(query);
    const float* const output = scratch.output + query * head_dim;
    const float sum = call.ops.sum_lanes(scratch.sum + query * kKvBlockTokens);
    float factor = 1.0F / sum;
    float* target = call.params.output + offset;
    if (call.plan.num_splits > 1) {
      const int64_t state = split * num_states + offset / head_dim;
      call.partials.max[state] = scratch.max[query];
      call.partials.sum[state] = sum;
      target = call.partials.output.data() + state * head_dim;
      factor = 1.0F;
    }
    call.ops.scale(output, factor, head_dim, target);
  }
}

// Item 0 is the most expensive: the last rows see the most keys.
void RunItem(Call& call, int64_t item, float* memory) {
  const AttentionRowsParams& params = call.params;
  const AttentionPlan& plan = call.plan;
  const int64_t split = item % plan.num_splits;
  const int64_t kv_head = item / plan.num_splits % params.layer.num_kv_heads;
  const int64_t tile_index =
      plan.num_tiles - 1 - item / plan.num_splits / params.layer.num_kv_heads;
  const int64_t row = tile_index * plan.tile_rows;
  const TileRows rows{.positions = params.positions + row,
                      .first_index = row,
                      .num_rows = std::min(plan.tile_rows, params.num_rows - row)};
  const TileScratch scratch(plan, params.layer.head_dim, call.ops.operand_bytes, memory);
  const AttentionTile tile(params, call.ops, kv_head, rows, scratch.queries);
  std::fill_n(scratch.output, tile.num_queries() * params.layer.head_dim, 0.0F);
  std::fill_n(scratch.max, tile.num_queries(), -kInfinity);
  std::fill_n(scratch.sum, tile.num_queries() * kKvBlockTokens, 0.0F);
  const int64_t num_blocks = (tile.keys().size() + plan.block_keys - 1) / plan.block_keys;
  const IndexRange blocks{num_blocks * split / plan.num_splits,
                          num_blocks * (split + 1) / plan.num_splits};
  RunBlocks(call, tile, blocks, scratch);
  FinishTile(call, tile, split, scratch);
}

// output = sum of 2^(max_s - max) output_s / sum of 2^(max_s - max) sum_s
void MergeRow(const Call& call, int64_t row) {
  const AttentionRowsParams& params = call.params;
  const int64_t head_dim = params.layer.head_dim;
  const int64_t num_states = params.num_rows * params.num_heads;
  for (int64_t head = 0; head < params.num_heads; ++head) {
    const int64_t first = row * params.num_heads + head;
    float max = -kInfinity;
    for (int64_t split = 0; split < call.plan.num_splits; ++split) {
      max = std::max(max, call.partials.max[split * num_states + first]);
    }
    if (max == -kInfinity) max = 0.0F;
    float* const target = params.output + first * head_dim;
    std::fill_n(target, head_dim, 0.0F);
    float sum = 0.0F;
    for (int64_t split = 0; split < call.plan.num_splits; ++split) {
      const int64_t state = split * num_states + first;
      // A part that has not a single visible key holds zeros. One of scores that are all -infinity
      // or NaN keeps its sum.
      const float part_max = call.partials.max[state];
      const float weight = part_max == -kInfinity ? 1.0F : std::exp2(part_max - max);
      sum += weight * call.partials.sum[state];
      call.ops.add_scaled(call.partials.output.data() + state * head_dim, weight, head_dim, target);
    }
    call.ops.scale(target, 1.0F / sum, head_dim, target);
  }
}

}  // namespace

Status AttentionRows(const AttentionRowsParams& params, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRows(params));
  if (pool == nullptr) return Status(StatusCode::kInvalidArgument, "no thread pool");
  if (params.num_rows == 0) return Status::Ok();
  if (params.output == nullptr) return Status(StatusCode::kInvalidArgument, "output is null");
  const int64_t num_keys = int64_t{params.positions[params.num_rows - 1]} + 1;
  Call call{.params = params,
            .ops = GetAttentionOps(params.layer.type),
            .plan = PlanAttention(params, params.num_rows, num_keys, kTileQueries),
            .partials = {}};
  const AttentionPlan& plan = call.plan;
  if (plan.num_splits > 1) {
    const int64_t num_states = plan.num_splits * params.num_rows * params.num_heads;
    INTARSIA_ASSIGN_OR_RETURN(call.partials.output,
                              AlignedArray<float>::TryCreate(num_states * params.layer.head_dim));
    INTARSIA_ASSIGN_OR_RETURN(call.partials.max, AlignedArray<float>::TryCreate(num_states));
    INTARSIA_ASSIGN_OR_RETURN(call.partials.sum, AlignedArray<float>::TryCreate(num_states));
  }
  const int64_t worker_floats = TileScratch::NumFloats(plan, params.layer.head_dim);
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> memory,
                            AlignedArray<float>::TryCreate(worker_floats * pool->num_threads()));
  pool->ParallelFor(plan.num_tiles * params.layer.num_kv_heads * plan.num_splits,
                    [&](int64_t item, int worker) {
                      RunItem(call, item, memory.data() + worker * worker_floats);
                    });
  if (plan.num_splits > 1) {
    pool->ParallelFor(params.num_rows, [&](int64_t row, int) { MergeRow(call, row); });
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
