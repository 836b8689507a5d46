// What the threads of a block of the Hopper kernel of attention share: the layout of its memory,
// the rings of stages through which keys and values come, and the order of its items.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_shares.h"
#include "kernels/attention_work.h"
#include "kernels/tensor_core.cuh"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {

struct HopperArguments {
  AttentionArguments rows;
  CUtensorMap k = {};  // 64-byte aligned by its type, as copies want it
  CUtensorMap v = {};
};

// What a block knows of its shares. Its own items are worked out beforehand, because the copying
// thread has no registers for it.
struct BlockShares {
  AttentionShares all;
  AttentionWork own[AttentionShares::kItemsOfBlockMax];
  int32_t num_own;
};

template <int kHeadDim_, bool kHasSoftcap_>
struct HopperTraits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kHasSoftcap = kHasSoftcap_;
  static constexpr int kTileKeys = kHeadDim > 128 ? 64 : 128;
  static constexpr int kConsumers = 2;  // warpgroups
  static constexpr int kTileQueries = 64 * kConsumers;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  static constexpr int kStages = 2;
  static constexpr int kSlabs = kHeadDim / 64;  // of 128 bytes a row, as copies and wgmma want it
  static constexpr int kColumns = kHeadDim > 128 ? 128 : kHeadDim;  // of one product P V
  static constexpr int kProducts = kHeadDim / kColumns;
  // One tile's queries are fetched while the tile before is worked on.
  static constexpr int kQueryBuffers = kHeadDim > 128 ? 1 : 2;
  static constexpr int kQueryBytes = kTileQueries * kHeadDim * 2;
  static constexpr int kTileBytes = kTileKeys * kHeadDim * 2;
  static constexpr int kStageOffset = kQueryBuffers * kQueryBytes;
  static constexpr int kBarrierOffset = kStageOffset + 2 * kStages * kTileBytes;
  static constexpr int kSharesOffset = kBarrierOffset + 4 * kStages * 8;
  static constexpr int kSharedBytes = kSharesOffset + static_cast<int>(sizeof(BlockShares));
  // Of a thread: 168 at launch, as many in all after they have changed hands.
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;

  static_assert(kSharedBytes <= 227 * 1024, "what a block of sm_90 may have");
  static_assert(kTileQueries == kHopperTileQueries);
  static_assert(kTileBytes % 1024 == 0 && kQueryBytes % 1024 == 0, "the swizzle's period");
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= 512, "of 128 threads");
};

// A ring of stages of K, or of V.
template <typename Traits>
struct Ring {
  uint32_t stages;    // shared addresses
  uint32_t barriers;  // kStages that say a stage is full, then kStages that it is empty
  int index = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ Ring(unsigned char* shared, int which)
      : stages(SharedAddress(shared) + Traits::kStageOffset +
               which * Traits::kStages * Traits::kTileBytes),
        barriers(SharedAddress(shared) + Traits::kBarrierOffset + which * Traits::kStages * 16) {}

  __device__ __forceinline__ uint32_t Stage() const { return stages + index * Traits::kTileBytes; }
  __device__ __forceinline__ uint32_t Full() const { return barriers + index * 8; }
  __device__ __forceinline__ uint32_t Empty() const {
    return barriers + (Traits::kStages + index) * 8;
  }
  __device__ __forceinline__ void WaitUntilFull() const { WaitAtBarrier(Full(), parity); }
  // The stages are empty at first: the phase before the first counts as ended.
  __device__ __forceinline__ void WaitUntilEmpty() const { WaitAtBarrier(Empty(), parity ^ 1); }
  // Once for each warp; then the next stage is at hand.
  __device__ __forceinline__ void Release() {
    if (threadIdx.x % 32 == 0) ArriveAtBarrier(Empty());
    Advance();
  }
  __device__ __forceinline__ void Advance() {
    if (++index == Traits::kStages) {
      index = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ int32_t OwnItem(int32_t turn) {
  return ItemOfTurn(turn, static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(gridDim.x));
}

// The items of a block, turn by turn.
template <typename Traits>
struct HopperItems {
  const AttentionArguments& args;
  const BlockShares& shares;

  __device__ __forceinline__ HopperItems(const AttentionArguments& arguments,
                                         const unsigned char* shared)
      : args(arguments),
        shares(*reinterpret_cast<const BlockShares*>(shared + Traits::kSharesOffset)) {}
  __device__ __forceinline__ bool Has(int32_t turn) const {
    return args.tile_parts != nullptr ? turn < shares.num_own : OwnItem(turn) < args.num_items;
  }
  __device__ __forceinline__ AttentionWork At(int32_t turn) const {
    return args.tile_parts != nullptr
               ? shares.own[turn]
               : WorkOfItem<Traits::kTileQueries, Traits::kTileKeys>(args, OwnItem(turn));
  }
};

// All threads of a block, for FillShares.
struct BlockTeam {
  int32_t index;
  int32_t size;

  __device__ __forceinline__ void Sync() const { __syncthreads(); }
  __device__ __forceinline__ void LowerTo(int32_t* target, int32_t value) const {
    atomicMin(target, value);
  }
  __device__ __forceinline__ void RaiseTo(int32_t* target, int32_t value) const {
    atomicMax(target, value);
  }
  __device__ __forceinline__ void AddTo(int32_t* target, int32_t value) const {
    atomicAdd(target, value);
  }
};

// Fills the block's table of shares; the first block says what they are to the kernel that merges
// them. All threads of the block.
template <typename Traits>
__device__ __forceinline__ void PrepareShares(const AttentionArguments& args,
                                              unsigned char* shared) {
  auto* const shares = reinterpret_cast<BlockShares*>(shared + Traits::kSharesOffset);
  const BlockTeam team = {static_cast<int32_t>(threadIdx.x), Traits::kThreads};
  FillShares<Traits::kTileQueries, Traits::kTileKeys>(args, static_cast<int32_t>(gridDim.x), team,
                                                      &shares->all);
  if (team.index == 0) {
    int32_t turn = 0;
    for (; turn < AttentionShares::kItemsOfBlockMax; ++turn) {
      const int32_t item = OwnItem(turn);
      if (item >= shares->all.num_items) break;
      shares->own[turn] =
          WorkOfShare<Traits::kTileQueries, Traits::kTileKeys>(args, shares->all, item);
    }
    shares->num_own = turn;
  }
  if (blockIdx.x != 0) return;
  for (int32_t place = team.index; place < shares->all.num_tiles; place += team.size) {
    const int32_t tile = shares->all.tile_at[place];
    args.tile_parts[tile] = {.first_item = shares->all.first_item[place],
                             .num_parts = shares->all.num_parts[tile]};
  }
}

}  // namespace intarsia::kernels
