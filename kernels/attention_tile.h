// AttentionTile: the queries of some rows at one kv head, and their masked scores block by block.
//
// Query q of a tile is row q / group_size at head q % group_size of the kv head's group, so that a
// block of keys is read once for all of them. The rows are sorted, so those that see a block follow
// each other: a block is scored for them alone, and masked only where it crosses a row's limits.
//
// Thread safety: owned by one thread.
// Lifetime: what it is made of must outlive it.
#pragma once

#include <cstdint>

#include "kernels/attention_ops.h"
#include "kernels/attention_rows.h"

namespace intarsia::kernels {

// Half-open.
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

struct TileRows {
  const int32_t* positions = nullptr;  // [num_rows], sorted
  const int64_t* indices = nullptr;  // [num_rows]: rows of q; null: first_index, first_index + 1 ..
  int64_t first_index = 0;
  int64_t num_rows = 0;
  int64_t Index(int64_t row) const { return indices ? indices[row] : first_index + row; }
};

class AttentionTile {
 public:
  // Packs the queries into `queries`, memory for num_queries() * head_dim operands.
  AttentionTile(const AttentionRowsParams& params, const AttentionOps& ops, int64_t kv_head,
                const TileRows& rows, void* queries);

  const TileRows& rows() const { return rows_; }
  int64_t num_queries() const { return rows_.num_rows * group_size_; }
  // Where the head of query q lies in an array [rows of q, num_heads, head_dim], in elements.
  int64_t HeadOffset(int64_t query) const;
  // The keys that some row sees; `begin` is a multiple of 16.
  IndexRange keys() const;

  // Scores keys [key_begin, key_begin + num_keys), in units of log2, for the queries that see any
  // of them, and returns these. Row q of `scores` starts at q * stride and is filled with -infinity
  // where the mask forbids, up to the next multiple of 16 keys.
  // REQUIRES: key_begin is a multiple of 16, and the last key is below keys().end.
  IndexRange Score(int64_t key_begin, int64_t num_keys, float* scores, int64_t stride) const;
  // How many keys ahead memory is asked for. Few queries wait for it, and the hardware starts anew
  // at every block of K and of V; with many the products hide it.
  int64_t prefetch_keys() const { return num_queries() <= kStreamingQueries ? kPrefetchKeys : 0; }

  // K and V of this kv head from a token on, which is a multiple of 16.
  const void* KeysFrom(int64_t token) const;
  const void* ValuesFrom(int64_t token) const;

 private:
  static constexpr int64_t kStreamingQueries = 16;
  static constexpr int64_t kPrefetchKeys = 128;

  int64_t FirstVisible(int64_t row) const;
  IndexRange VisibleRows(int64_t key_begin, int64_t key_end) const;

  const AttentionRowsParams& params_;
  const AttentionOps& ops_;
  const int64_t kv_head_;
  const int64_t group_size_;
  const TileRows rows_;
  const void* const queries_;
};

}  // namespace intarsia::kernels
