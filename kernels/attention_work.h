// AttentionWork: which queries and keys a block of the CUDA kernels of attention works on.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "kernels/attention_cuda_plan.h"
#include "kernels/paged_kv.h"

namespace intarsia::kernels {

INTARSIA_HOST_DEVICE constexpr int32_t SmallerOf(int32_t a, int32_t b) { return a < b ? a : b; }
INTARSIA_HOST_DEVICE constexpr int32_t LargerOf(int32_t a, int32_t b) { return a > b ? a : b; }
INTARSIA_HOST_DEVICE constexpr int32_t CeilDivide(int32_t value, int32_t divisor) {
  return (value + divisor - 1) / divisor;
}

// One tile of queries of one sequence and kv head, and the keys that it reads.
struct AttentionWork {
  int32_t kv_head;
  int32_t split;
  int32_t first_row;          // of the sequence, in q and positions
  int32_t first_query;        // of the tile, counted within the sequence
  const int32_t* page_table;  // of the sequence
  int32_t key_end;            // 1 + the largest position in the tile
  int32_t position_min;       // in the tile
  int32_t key_tile_begin;     // tiles of keys that some query of the tile sees, of this split
  int32_t key_tile_end;
  int32_t num_parts;  // that the keys of the tile are cut into
  int32_t item;       // of a table of shares: where its part of the output goes
};

// Tiles of keys.
struct KeyTiles {
  int32_t begin;
  int32_t end;
};

// The row of a query, which may lie beyond the sequence: then it is that of the last one.
INTARSIA_HOST_DEVICE inline int32_t RowOfQuery(const AttentionArguments& args,
                                               const AttentionWork& work, int32_t query) {
  const int32_t clamped = SmallerOf(query, args.queries_per_sequence - 1);
  return work.first_row + clamped / args.group_size;
}

// Elements of q and output before those of a query.
INTARSIA_HOST_DEVICE inline int64_t OffsetOfQuery(const AttentionArguments& args,
                                                  const AttentionWork& work, int32_t query) {
  const int32_t clamped = SmallerOf(query, args.queries_per_sequence - 1);
  const int64_t row = work.first_row + clamped / args.group_size;
  const int64_t head = work.kv_head * args.group_size + clamped % args.group_size;
  return (row * args.num_heads + head) * args.layer.head_dim;
}

// A tile of queries of a sequence, as far as it does not depend on the kv head and on parts.
template <int kTileQueries>
INTARSIA_HOST_DEVICE inline AttentionWork WorkOfTile(const AttentionArguments& args,
                                                     int32_t sequence, int32_t tile) {
  AttentionWork work = {};
  work.first_row = sequence * args.rows_per_sequence;
  work.first_query = tile * kTileQueries;
  work.page_table = args.layer.page_table + sequence * args.page_table_stride;
  work.position_min = args.positions[RowOfQuery(args, work, work.first_query)];
  work.key_end = args.positions[RowOfQuery(args, work, work.first_query + kTileQueries - 1)] + 1;
  return work;
}

// The tiles of keys that some query of the tile sees.
template <int kTileKeys>
INTARSIA_HOST_DEVICE inline KeyTiles KeyTilesOf(const AttentionArguments& args,
                                                const AttentionWork& work) {
  const int32_t first_key = args.window > 0 ? LargerOf(0, work.position_min - args.window + 1) : 0;
  return {.begin = first_key / kTileKeys, .end = CeilDivide(work.key_end, kTileKeys)};
}

// Item `index` of num_items. The last tiles, which see most keys, come first; the kv heads and
// parts of a tile follow each other.
template <int kTileQueries, int kTileKeys>
INTARSIA_HOST_DEVICE inline AttentionWork WorkOfItem(const AttentionArguments& args,
                                                     int32_t index) {
  static_assert(kPageTokens % kTileKeys == 0, "a tile of keys lies within one page");
  const int32_t split = index % args.num_splits;
  int32_t rest = index / args.num_splits;
  const int32_t kv_head = rest % args.layer.num_kv_heads;
  rest /= args.layer.num_kv_heads;
  const int32_t sequence = rest / args.tiles_per_sequence;
  const int32_t tile = args.tiles_per_sequence - 1 - rest % args.tiles_per_sequence;
  AttentionWork work = WorkOfTile<kTileQueries>(args, sequence, tile);
  work.kv_head = kv_head;
  work.split = split;
  work.num_parts = args.num_splits;
  const KeyTiles keys = KeyTilesOf<kTileKeys>(args, work);
  const int32_t length = CeilDivide(keys.end - keys.begin, args.num_splits);
  work.key_tile_begin = SmallerOf(keys.end, keys.begin + split * length);
  work.key_tile_end = SmallerOf(keys.end, work.key_tile_begin + length);
  return work;
}

// Elements of a pool before the first token of a tile of keys.
template <int kTileKeys>
INTARSIA_HOST_DEVICE inline int64_t OffsetOfKeyTile(const AttentionArguments& args,
                                                    const AttentionWork& work, int32_t key_tile) {
  constexpr int32_t kTilesPerPage = static_cast<int32_t>(kPageTokens) / kTileKeys;
  const int32_t page = work.page_table[key_tile / kTilesPerPage];
  return PagedKvOffset(args.layer, page, work.kv_head, key_tile % kTilesPerPage * kTileKeys);
}

// Whether some query of rows at [position_min, position_max] does not see all of
// [key, key + num_keys).
INTARSIA_HOST_DEVICE inline bool IsCutByMask(const AttentionArguments& args, int32_t position_min,
                                             int32_t position_max, int32_t key, int32_t num_keys) {
  return key + num_keys - 1 > position_min ||
         (args.window > 0 && key <= position_max - args.window);
}

// The keys that a row at `position` sees, counted from key `from`: [first, last].
struct VisibleKeys {
  int32_t first;
  int32_t last;

  // Without a branch, because neighbouring threads differ in it.
  INTARSIA_HOST_DEVICE constexpr bool Has(int32_t key) const {
    return static_cast<bool>(static_cast<int>(key >= first) & static_cast<int>(key <= last));
  }
};

INTARSIA_HOST_DEVICE inline VisibleKeys VisibleKeysOf(const AttentionArguments& args,
                                                      int32_t position, int32_t from) {
  const int32_t first = args.window > 0 ? LargerOf(0, position - args.window + 1) : 0;
  return {.first = first - from, .last = position - from};
}

// Which item block `block` of `num_blocks` works on at its turn `turn`, where blocks stay: there
// are such items while the result is below num_items. Every second turn the order of the blocks is
// reversed, so that the sums of what they get are nearly equal.
INTARSIA_HOST_DEVICE inline int32_t ItemOfTurn(int32_t turn, int32_t block, int32_t num_blocks) {
  return turn * num_blocks + (turn % 2 == 0 ? block : num_blocks - 1 - block);
}

}  // namespace intarsia::kernels
