// AttentionCudaPlan: a call of AttentionRowsCuda or AttentionMassCuda, checked, and how it is laid
// out on a device.
//
// Query heads that share a kv head are packed: a "query" is one head of one row, and the queries of
// a sequence (the rows of one request) and kv head are numbered row by row, group_size to a row.
// A tile of queries is what a block works on, over all of its keys or over one of `num_splits`
// parts of them, which a second kernel merges by their log-sum-exp. The Hopper kernel cuts tiles
// that are few by what each of them sees.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/attention_rows_cuda.h"

namespace intarsia::kernels {

struct AttentionProblem {
  int64_t num_sequences = 0;
  int64_t queries_per_sequence = 0;  // of one kv head
  int64_t num_keys = 0;              // that a row sees at most
  int32_t num_kv_heads = 0;
  int32_t group_size = 0;
  int32_t head_dim = 0;
  int32_t capability = 0;  // of the device, 10 * major + minor
  int32_t num_multiprocessors = 0;
  std::string ToString() const;
};

enum class AttentionKernel : uint8_t {
  kDecode = 0,   // up to 16 queries a tile: the warps of a block share the keys
  kPrefill = 1,  // mma.sync: the warps of a block share the queries
  kHopper = 2,   // wgmma and bulk copies
};

inline constexpr int32_t kHopperTileQueries = 128;

struct AttentionConfig {
  AttentionKernel kernel = AttentionKernel::kDecode;
  int32_t tile_queries = 0;
  int32_t tile_keys = 0;
  std::string ToString() const;
};

struct AttentionLaunch {
  int64_t tiles_per_sequence = 0;  // of one kv head
  int64_t num_splits = 0;
  int64_t num_items = 0;  // tile x kv head x sequence x split
  // The keys of each tile are cut on the device (kernels/attention_shares.h), into no more than
  // num_splits parts; num_items is then the most items that there may be.
  bool is_shared = false;
  int64_t workspace_bytes = 0;
  std::string ToString() const;
};

AttentionConfig ChooseAttentionConfig(const AttentionProblem& problem);
// REQUIRES: `config` comes from ChooseAttentionConfig, or differs from it in the kernel alone.
AttentionLaunch PlanAttentionLaunch(const AttentionProblem& problem, const AttentionConfig& config);

// Everything that AttentionRowsCuda refuses before it looks at the device, but for its output and
// workspace; the same of AttentionMassCuda.
Status CheckAttentionRowsCuda(const AttentionRowsCudaParams& params);
Status CheckAttentionMassCuda(const AttentionMassCudaParams& params);
// The rest: outputs, and a workspace of `num_bytes`.
Status CheckAttentionOutput(const AttentionRowsCudaParams& params);
Status CheckAttentionWorkspace(const AttentionRowsCudaParams& params, int64_t num_bytes);

// REQUIRES: CheckAttentionRowsCuda(params), num_rows >= 1.
AttentionProblem DescribeAttention(const AttentionRowsCudaParams& params, int32_t capability,
                                   int32_t num_multiprocessors);

// The parts of a tile of queries: part p of kv head h is item first_item + p * num_kv_heads + h.
struct AttentionTileParts {
  int32_t first_item = 0;
  int32_t num_parts = 0;  // 1: its output is written at once
};

// What a kernel is given.
struct AttentionArguments {
  PagedKvLayer layer;
  const uint16_t* q = nullptr;
  const int32_t* positions = nullptr;
  uint16_t* output = nullptr;
  float* lse = nullptr;
  // Parts of tiles: [num_splits, num_rows, num_heads], of shares [num_items, tile of queries].
  float* partial_output = nullptr;  // [that, head_dim]
  float* partial_lse = nullptr;     // [that], base 2
  // What the kernel says of its shares, by tile; null where tiles are cut alike.
  AttentionTileParts* tile_parts = nullptr;  // [tiles_per_sequence]
  int64_t page_table_stride = 0;
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t group_size = 0;
  int32_t rows_per_sequence = 0;
  int32_t queries_per_sequence = 0;  // rows_per_sequence * group_size
  int32_t tiles_per_sequence = 0;
  int32_t num_splits = 0;
  int32_t num_items = 0;
  int32_t window = 0;
  // Scores in base 2 are score_factor * (q . k), or, with a softcap,
  // cap_log2 * tanh(q . k * score_factor / 2): then score_factor carries the factors of exp(2x).
  float score_factor = 0.0f;
  float cap_log2 = 0.0f;
};

// REQUIRES: as DescribeAttention. `workspace` has launch.workspace_bytes.
AttentionArguments MakeAttentionArguments(const AttentionRowsCudaParams& params,
                                          const AttentionProblem& problem,
                                          const AttentionLaunch& launch);

}  // namespace intarsia::kernels
