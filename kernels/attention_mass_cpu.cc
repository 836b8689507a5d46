// Bound: compute, 2 * head_dim flops for each visible key of each query, half of what AttentionRows
// does. Design: a tile of queries goes over its keys once and keeps every probability, relative to
// the stabiliser of its block, in the L2 cache; when the sums are known, a second pass over these
// adds them up. Tiles are dealt to a fixed number of partial masses, summed up in a fixed order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/aligned_array.h"
#include "base/rounding.h"
#include "kernels/attention_ops.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_rows.h"
#include "kernels/attention_tile.h"

namespace intarsia::kernels {
namespace {

// The probabilities of a tile fit into an L2 cache of 1 MiB beside the keys that stream through.
constexpr int64_t kProbabilitiesMax = (int64_t{768} << 10) / int64_t{sizeof(float)};
constexpr int64_t kTileQueriesMax = 48;
constexpr int64_t kTileQueriesMin = 6;
constexpr int64_t kPartialsMax = 32;
constexpr int64_t kAddedKeys = 2048;

// The rows that have a weight.
struct WeightedRows {
  std::vector<int64_t> indices;
  std::vector<int32_t> positions;
};

WeightedRows SelectRows(const AttentionMassParams& params) {
  WeightedRows rows;
  for (int64_t row = 0; row < params.rows.num_rows; ++row) {
    if (params.weights[row] == 0.0F) continue;
    rows.indices.push_back(row);
    rows.positions.push_back(params.rows.positions[row]);
  }
  return rows;
}

// What a worker needs for a tile, in one piece of memory, counted in floats.
struct MassScratch {
  float* queries;        // operands [num_queries, head_dim]
  float* probabilities;  // [num_blocks, num_queries, keys of the block, a multiple of 16]
  float* max_then;       // [num_blocks, num_queries]: the stabiliser that a block was left with
  float* max;            // [num_queries]
  float* factors;        // [num_queries]: weight / num_heads / sum
  float* corrected;      // [num_queries]: the same for a block, relative to `max_then`
  float* sum;            // [num_queries, 16]

  // Of a tile that starts at most a block before `num_keys` keys.
  static int64_t NumFloats(int64_t num_queries, int64_t num_keys, int64_t block_keys,
                           int64_t head_dim) {
    const int64_t num_blocks = num_keys / block_keys + 1;
    return RoundUp(num_queries * (head_dim + num_blocks * (block_keys + 1) + 19), 16);
  }
  MassScratch(int64_t num_queries, int64_t num_blocks, int64_t block_keys, int64_t head_dim,
              float* memory) {
    queries = memory;
    probabilities = queries + num_queries * head_dim;
    sum = probabilities + num_queries * num_blocks * block_keys;
    max_then = sum + num_queries * 16;
    max = max_then + num_queries * num_blocks;
    factors = max + num_queries;
    corrected = factors + num_queries;
  }
};

struct Call {
  const AttentionMassParams& params;
  const AttentionOps& ops;
  const AttentionOps& f32_ops;
  WeightedRows rows;
  AttentionPlan plan;
  int64_t num_keys = 0;  // a multiple of 16
  int64_t num_partials = 0;
  AlignedArray<float> partials;  // [num_partials, num_keys]
};

// Where a block of a tile lies; each of its arrays of queries is whole, seen or not.
struct Block {
  int64_t key;
  int64_t num_keys;
  int64_t num_padded;
  float* probabilities;  // [num_queries, num_padded]
  float* max_then;       // [num_queries]
};

Block BlockOf(const Call& call, const AttentionTile& tile, const MassScratch& scratch,
              int64_t index) {
  const IndexRange keys = tile.keys();
  const int64_t key = keys.begin + index * call.plan.block_keys;
  const int64_t num_keys = std::min(call.plan.block_keys, keys.end - key);
  return {
      .key = key,
      .num_keys = num_keys,
      .num_padded = RoundUp(num_keys, kKvBlockTokens),
      .probabilities = scratch.probabilities + index * tile.num_queries() * call.plan.block_keys,
      .max_then = scratch.max_then + index * tile.num_queries()};
}

// First pass: the probabilities of a block, relative to the stabiliser so far.
void ScoreBlock(const Call& call, const AttentionTile& tile, const Block& block,
                const MassScratch& scratch) {
  const int64_t num_padded = block.num_padded;
  const IndexRange queries = tile.Score(block.key, block.num_keys, block.probabilities, num_padded);
  // Queries that see nothing here count as 0 in the second pass.
  std::fill_n(block.probabilities, queries.begin * num_padded, 0.0F);
  std::fill_n(block.probabilities + queries.end * num_padded,
              (tile.num_queries() - queries.end) * num_padded, 0.0F);
  if (queries.size() > 0) {
    float* const probabilities = block.probabilities + queries.begin * num_padded;
    call.ops.softmax_f32({.scores = probabilities,
                          .scores_stride = num_padded,
                          .probabilities = probabilities,
                          .num_queries = queries.size(),
                          .num_keys = num_padded,
                          .max = scratch.max + queries.begin,
                          .sum = scratch.sum + queries.begin * kKvBlockTokens,
                          .output = nullptr,
                          .head_dim = 0});
  }
  std::copy_n(scratch.max, tile.num_queries(), block.max_then);
}

// Second pass: mass[u] += sum over q of weight / num_heads / sum[q] * 2^(max_then - max) * p[q, u]
void AddBlock(const Call& call, const AttentionTile& tile, const Block& block,
              const MassScratch& scratch, float* mass) {
  for (int64_t query = 0; query < tile.num_queries(); ++query) {
    // Equal stabilisers may be infinite, and their difference NaN.
    const float max_then = block.max_then[query];
    const float max = scratch.max[query];
    const float correction = max_then == max ? 1.0F : std::exp2(max_then - max);
    scratch.corrected[query] = scratch.factors[query] * correction;
  }
  call.f32_ops.values({.probabilities = scratch.corrected,
                       .probabilities_stride = tile.num_queries(),
                       .values = block.probabilities,
                       .num_queries = 1,
                       .num_keys = tile.num_queries(),
                       .head_dim = block.num_padded,
                       .output = mass + block.key});
}

// Item 0 is the most expensive: the last rows see the most keys.
void RunItem(const Call& call, int64_t item, float* memory, float* mass) {
  const AttentionRowsParams& params = call.params.rows;
  const auto num_rows = static_cast<int64_t>(call.rows.indices.size());
  const int64_t kv_head = item % params.layer.num_kv_heads;
  const int64_t row =
      (call.plan.num_tiles - 1 - item / params.layer.num_kv_heads) * call.plan.tile_rows;
  const TileRows rows{.positions = call.rows.positions.data() + row,
                      .indices = call.rows.indices.data() + row,
                      .num_rows = std::min(call.plan.tile_rows, num_rows - row)};
  const int64_t num_queries = rows.num_rows * call.plan.group_size;
  const int64_t num_blocks_max = call.num_keys / call.plan.block_keys + 1;
  const MassScratch scratch(num_queries, num_blocks_max, call.plan.block_keys,
                            params.layer.head_dim, memory);
  const AttentionTile tile(params, call.ops, kv_head, rows, scratch.queries);
  std::fill_n(scratch.max, num_queries, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.sum, num_queries * kKvBlockTokens, 0.0F);
  const int64_t num_blocks = (tile.keys().size() + call.plan.block_keys - 1) / call.plan.block_keys;
  for (int64_t i = 0; i < num_blocks; ++i) {
    ScoreBlock(call, tile, BlockOf(call, tile, scratch, i), scratch);
  }
  for (int64_t query = 0; query < num_queries; ++query) {
    const float weight = call.params.weights[rows.Index(query / call.plan.group_size)];
    scratch.factors[query] = weight / static_cast<float>(params.num_heads) /
                             call.ops.sum_lanes(scratch.sum + query * kKvBlockTokens);
  }
  for (int64_t i = 0; i < num_blocks; ++i) {
    AddBlock(call, tile, BlockOf(call, tile, scratch, i), scratch, mass);
  }
}

void RunPartial(Call& call, int64_t partial, float* memory) {
  float* const mass = call.partials.data() + partial * call.num_keys;
  std::fill_n(mass, call.num_keys, 0.0F);
  const int64_t num_items = call.plan.num_tiles * call.params.rows.layer.num_kv_heads;
  for (int64_t item = partial; item < num_items; item += call.num_partials) {
    RunItem(call, item, memory, mass);
  }
}

void AddPartials(const Call& call, const IndexRange& keys) {
  float* const mass = call.params.mass + keys.begin;
  const int64_t num_whole = keys.size() / kKvBlockTokens * kKvBlockTokens;
  for (int64_t partial = 0; partial < call.num_partials; ++partial) {
    const float* const added = call.partials.data() + partial * call.num_keys + keys.begin;
    call.ops.add_scaled(added, 1.0F, num_whole, mass);
    for (int64_t i = num_whole; i < keys.size(); ++i) mass[i] += added[i];
  }
}

}  // namespace

Status AttentionMass(const AttentionMassParams& params, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionMass(params));
  if (pool == nullptr) return Status(StatusCode::kInvalidArgument, "no thread pool");
  Call call{.params = params,
            .ops = GetAttentionOps(params.rows.layer.type),
            .f32_ops = GetAttentionOps(KvType::kF32),
            .rows = SelectRows(params),
            .plan = {},
            .partials = {}};
  if (call.rows.indices.empty()) return Status::Ok();
  const int64_t num_visible = int64_t{call.rows.positions.back()} + 1;
  call.num_keys = RoundUp(num_visible, kKvBlockTokens);
  const int64_t tile_queries =
      std::clamp(kProbabilitiesMax / call.num_keys, kTileQueriesMin, kTileQueriesMax);
  call.plan = PlanAttention(params.rows, static_cast<int64_t>(call.rows.indices.size()),
                            num_visible, tile_queries);
  call.num_partials = std::min(kPartialsMax, call.plan.num_tiles * params.rows.layer.num_kv_heads);
  INTARSIA_ASSIGN_OR_RETURN(call.partials,
                            AlignedArray<float>::TryCreate(call.num_partials * call.num_keys));
  const int64_t worker_floats =
      MassScratch::NumFloats(call.plan.tile_rows * call.plan.group_size, call.num_keys,
                             call.plan.block_keys, params.rows.layer.head_dim);
  INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> memory,
                            AlignedArray<float>::TryCreate(worker_floats * pool->num_threads()));
  pool->ParallelFor(call.num_partials, [&](int64_t partial, int worker) {
    RunPartial(call, partial, memory.data() + worker * worker_floats);
  });
  const int64_t num_ranges = (num_visible + kAddedKeys - 1) / kAddedKeys;
  pool->ParallelFor(num_ranges, [&](int64_t range, int) {
    const int64_t begin = range * kAddedKeys;
    AddPartials(call, {begin, std::min(begin + kAddedKeys, num_visible)});
  });
  return Status::Ok();
}

}  // namespace intarsia::kernels
