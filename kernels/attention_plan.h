// AttentionPlan: a call of AttentionRows or AttentionMass, checked, and how its rows form tiles.
//
// The plan depends on the sizes of a call and not on the number of threads, so that the result
// does not either.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/attention_rows.h"

namespace intarsia::kernels {

// Everything that AttentionRows refuses, but for its output.
Status CheckAttentionRows(const AttentionRowsParams& params);

// Everything that AttentionMass refuses.
Status CheckAttentionMass(const AttentionMassParams& params);

struct AttentionPlan {
  int64_t group_size = 0;  // query heads that share a kv head
  int64_t tile_rows = 0;   // rows of a tile; its queries are tile_rows * group_size
  int64_t num_tiles = 0;   // per kv head
  int64_t block_keys = 0;  // keys of a step, a multiple of 16
  int64_t num_splits = 0;  // parts into which the keys of every tile are cut
};

// A plan for `num_rows` >= 1 rows, of which the last sees `num_keys` keys at most, with tiles of
// about `tile_queries` queries. REQUIRES: CheckAttentionRows(params).
AttentionPlan PlanAttention(const AttentionRowsParams& params, int64_t num_rows, int64_t num_keys,
                            int64_t tile_queries);

}  // namespace intarsia::kernels
