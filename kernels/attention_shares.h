// AttentionShares: how the Hopper kernel of attention cuts tiles of queries that are too few, or
// too unequal, to keep every multiprocessor at work.
//
// A tile of queries that sees many keys would keep one multiprocessor at work long after the others
// are done. The keys of each tile are therefore cut into parts of nearly equal length, none longer
// than a limit: the least one with which there are so many parts that each block gets one, or two,
// of which the second is the shorter the longer the first is. How long tiles are is known on the
// device alone, so each block works the same table out for itself, with all of its threads.
//
// Thread safety: a table is filled by all threads of a block together and read by all afterwards.
#pragma once

#include <cstdint>

#include "kernels/attention_work.h"

namespace intarsia::kernels {

// The fixed table of a block, in shared memory.
struct AttentionShares {
  static constexpr int32_t kTilesMax = 256;  // of queries, of one kv head
  static constexpr int32_t kItemsOfBlockMax = 2;

  int32_t num_items = 0;
  int32_t num_tiles = 0;
  // The least limits with one and with two items to a block, or kNone.
  static constexpr int32_t kNone = 0x7fffffff;
  int32_t limits[2] = {};
  int32_t length_max = 0;
  int32_t length_sum = 0;

  // By tile of queries.
  int32_t first_key_tile[kTilesMax];
  int32_t length[kTilesMax];  // in tiles of keys
  int32_t num_parts[kTilesMax];
  // By place in the order of items, the longest parts first.
  int32_t tile_at[kTilesMax];
  int32_t first_item[kTilesMax];
};

// Items of all kv heads if no part is longer than `limit`.
INTARSIA_HOST_DEVICE inline int32_t CountItems(const AttentionShares& shares, int32_t num_kv_heads,
                                               int32_t limit) {
  int32_t count = 0;
  for (int32_t tile = 0; tile < shares.num_tiles; ++tile) {
    count += CeilDivide(shares.length[tile], limit);
  }
  return count * num_kv_heads;
}

// The limit that is taken, where both are known. An item costs about two tiles of keys beside its
// own (its queries are fetched and its sums written), and the second round is never quite even.
INTARSIA_HOST_DEVICE inline int32_t ChooseLimit(const AttentionShares& shares, int32_t num_kv_heads,
                                                int32_t num_blocks) {
  constexpr int32_t kItemCost = 2;
  const int32_t mean = shares.length_sum * num_kv_heads / num_blocks;
  const int32_t one = shares.limits[0];
  const int32_t two = shares.limits[1];
  if (one == AttentionShares::kNone) return two;
  return one + kItemCost <= mean + 2 * kItemCost + two / 4 ? one : two;
}

// Fills the table with `team`: thread `team.index` of `team.size`, which all meet in team.Sync().
// `team.LowerTo(target, value)` lowers *target to `value`, and team.AddTo and team.RaiseTo
// likewise, whatever other threads do. REQUIRES: one sequence, args.tiles_per_sequence <=
// kTilesMax, and at most two whole tiles of all kv heads to a block.
template <int kTileQueries, int kTileKeys, typename Team>
INTARSIA_HOST_DEVICE inline void FillShares(const AttentionArguments& args, int32_t num_blocks,
                                            const Team& team, AttentionShares* shares) {
  const int32_t num_kv_heads = args.layer.num_kv_heads;
  const int32_t num_tiles = args.tiles_per_sequence;
  if (team.index == 0) {
    shares->num_items = 0;
    shares->num_tiles = num_tiles;
    shares->limits[0] = shares->limits[1] = AttentionShares::kNone;
    shares->length_max = shares->length_sum = 0;
  }
  team.Sync();
  for (int32_t tile = team.index; tile < num_tiles; tile += team.size) {
    const KeyTiles keys = KeyTilesOf<kTileKeys>(args, WorkOfTile<kTileQueries>(args, 0, tile));
    shares->first_key_tile[tile] = keys.begin;
    shares->length[tile] = keys.end - keys.begin;
    team.RaiseTo(&shares->length_max, keys.end - keys.begin);
    team.AddTo(&shares->length_sum, keys.end - keys.begin);
  }
  team.Sync();
  // Every limit is tried where there are as many threads, else equally many up to the largest.
  const int32_t length_max = shares->length_max;
  const int32_t num_tried = SmallerOf(length_max, AttentionShares::kTilesMax);
  for (int32_t i = team.index; i < num_tried; i += team.size) {
    const auto limit = static_cast<int32_t>(int64_t{length_max} * (i + 1) / num_tried);
    const int32_t count = CountItems(*shares, num_kv_heads, limit);
    if (count <= num_blocks) team.LowerTo(&shares->limits[0], limit);
    if (count <= AttentionShares::kItemsOfBlockMax * num_blocks) {
      team.LowerTo(&shares->limits[1], limit);
    }
  }
  team.Sync();
  const int32_t limit = ChooseLimit(*shares, num_kv_heads, num_blocks);
  for (int32_t tile = team.index; tile < num_tiles; tile += team.size) {
    shares->num_parts[tile] = CeilDivide(shares->length[tile], limit);
  }
  team.Sync();
  const auto part_length = [shares](int32_t tile) {
    return CeilDivide(shares->length[tile], shares->num_parts[tile]);
  };
  for (int32_t tile = team.index; tile < num_tiles; tile += team.size) {
    const int32_t own = part_length(tile);
    int32_t place = 0;
    int32_t first_item = 0;
    for (int32_t other = 0; other < num_tiles; ++other) {
      const int32_t length = part_length(other);
      if (length < own || (length == own && other <= tile)) continue;
      ++place;
      first_item += shares->num_parts[other] * num_kv_heads;
    }
    shares->tile_at[place] = tile;
    shares->first_item[place] = first_item;
    if (place == num_tiles - 1) {
      shares->num_items = first_item + shares->num_parts[tile] * num_kv_heads;
    }
  }
  team.Sync();
}

// Item `index` of shares.num_items.
template <int kTileQueries, int kTileKeys>
INTARSIA_HOST_DEVICE inline AttentionWork WorkOfShare(const AttentionArguments& args,
                                                      const AttentionShares& shares,
                                                      int32_t index) {
  int32_t place = 0;
  for (int32_t end = shares.num_tiles; end - place > 1;) {
    const int32_t middle = (place + end) / 2;
    (shares.first_item[middle] <= index ? place : end) = middle;
  }
  const int32_t tile = shares.tile_at[place];
  const int32_t within = index - shares.first_item[place];
  AttentionWork work = WorkOfTile<kTileQueries>(args, 0, tile);
  work.kv_head = within % args.layer.num_kv_heads;
  work.num_parts = shares.num_parts[tile];
  work.item = index;
  const int32_t length = CeilDivide(shares.length[tile], work.num_parts);
  const int32_t end = shares.first_key_tile[tile] + shares.length[tile];
  work.key_tile_begin =
      SmallerOf(end, shares.first_key_tile[tile] + within / args.layer.num_kv_heads * length);
  work.key_tile_end = SmallerOf(end, work.key_tile_begin + length);
  return work;
}

}  // namespace intarsia::kernels
