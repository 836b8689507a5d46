// The multiplying warpgroups of the Hopper kernel of attention: scores, softmax and output of 64
// queries each, from tiles of keys and values that come through the block's rings.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_pipeline_sm90.cuh"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/swizzled_rows.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {

// Barriers of the block by number: 0 is __syncthreads.
constexpr int kTurnBarrier = 1;       // + warpgroup: whose turn it is to multiply
constexpr int kWarpgroupBarrier = 3;  // + warpgroup: among its own threads
constexpr int kConsumerBarrier = 5;   // of all consumers

// What a consumer thread keeps of its two rows, g and g + 8 of its warp's 16.
template <typename Traits>
struct ConsumerState {
  float output[Traits::kProducts][Traits::kColumns / 2];
  uint32_t probabilities[Traits::kTileKeys / 16][4];
  float max[2];
  float sum[2];  // this lane's part
};

template <typename Traits>
using Scores = float[Traits::kTileKeys / 2];

// A consumer's place: which warpgroup, and where its queries are.
struct Consumer {
  int group;   // 0 or 1
  int thread;  // in the group
};

// Starts to copy the group's 64 queries of an item.
template <typename Traits>
__device__ __forceinline__ void FetchQueries(const AttentionArguments& args,
                                             const AttentionWork& work, const Consumer& self,
                                             uint32_t buffer) {
  constexpr int kPieces = Traits::kHeadDim / 8;
#pragma unroll 4
  for (int i = self.thread; i < 64 * kPieces; i += 128) {
    const int query = self.group * 64 + i / kPieces;
    const uint16_t* const source =
        args.q + OffsetOfQuery(args, work, work.first_query + query) + i % kPieces * 8;
    CopyAsync16(buffer + SwizzledPiece<Traits::kTileQueries>(query, i % kPieces), source, 16);
  }
  CommitCopies();
}

// Starts scores [64, kTileKeys] = Q K^T.
template <typename Traits>
__device__ __forceinline__ void StartScores(uint32_t queries, uint32_t keys,
                                            Scores<Traits>& scores) {
#pragma unroll
  for (int step = 0; step < Traits::kHeadDim / 16; ++step) {
    const uint32_t slab = step / 4;
    const uint32_t within = step % 4 * 32;
    const uint64_t a =
        MatrixDescriptor(queries + slab * Traits::kTileQueries * 128 + within, 1024, 0);
    const uint64_t b = MatrixDescriptor(keys + slab * Traits::kTileKeys * 128 + within, 1024, 0);
    MultiplyShared(scores, a, b, step == 0 ? 0 : 1);
  }
  CommitProducts();
}

// Starts output [64, kHeadDim] += P V.
template <typename Traits>
__device__ __forceinline__ void StartOutput(uint32_t values, ConsumerState<Traits>& state) {
  constexpr uint32_t kSlabBytes = Traits::kTileKeys * 128;
#pragma unroll
  for (int step = 0; step < Traits::kTileKeys / 16; ++step) {
#pragma unroll
    for (int i = 0; i < Traits::kProducts; ++i) {
      const uint64_t b = MatrixDescriptor(
          values + i * (Traits::kColumns / 64) * kSlabBytes + step * 2048, 1024, kSlabBytes);
      MultiplyRegisters(state.output[i], state.probabilities[step], b);
    }
  }
  CommitProducts();
}

// Applies softcap and mask to the scores of the keys from `key` on.
template <typename Traits>
__device__ __forceinline__ void LimitScores(const AttentionArguments& args,
                                            const int (&position)[2], int key, bool is_masked,
                                            Scores<Traits>& scores) {
  if constexpr (Traits::kHasSoftcap) {
#pragma unroll
    for (int i = 0; i < Traits::kTileKeys / 2; ++i) scores[i] = SoftcapScore(args, scores[i]);
  }
  if (!is_masked) return;
  const int first = key + static_cast<int>(threadIdx.x) % 4 * 2;
  const VisibleKeys visible[2] = {VisibleKeysOf(args, position[0], first),
                                  VisibleKeysOf(args, position[1], first)};
#pragma unroll
  for (int i = 0; i < Traits::kTileKeys / 2; ++i) {
    if (!visible[i / 2 % 2].Has(i / 4 * 8 + i % 2)) scores[i] = -INFINITY;
  }
}

// Scores become probabilities relative to a maximum that may rise; `rescale` is what the output
// has to be multiplied by for it.
template <typename Traits>
__device__ __forceinline__ void UpdateSoftmax(float factor, Scores<Traits>& scores,
                                              ConsumerState<Traits>& state, float (&rescale)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float max = state.max[half];
#pragma unroll
    for (int i = 2 * half; i < Traits::kTileKeys / 2; i += 4) {
      max = fmaxf(max, fmaxf(scores[i], scores[i + 1]));
    }
    max = MaxOfRow(max);
    const float stabiliser = ScaledMax(StabiliserOf(max), factor);
    rescale[half] = Exp2Fast(ScaledMax(state.max[half], factor) - stabiliser);
    state.max[half] = max;
    float sum = state.sum[half] * rescale[half];
#pragma unroll
    for (int i = 2 * half; i < Traits::kTileKeys / 2; i += 4) {
      scores[i] = Exp2Fast(fmaf(scores[i], factor, -stabiliser));
      scores[i + 1] = Exp2Fast(fmaf(scores[i + 1], factor, -stabiliser));
      sum += scores[i] + scores[i + 1];
    }
    state.sum[half] = sum;
  }
}

template <typename Traits>
__device__ __forceinline__ void RescaleOutput(const float (&rescale)[2],
                                              ConsumerState<Traits>& state) {
#pragma unroll
  for (int i = 0; i < Traits::kProducts; ++i) {
#pragma unroll
    for (int j = 0; j < Traits::kColumns / 2; ++j) state.output[i][j] *= rescale[j / 2 % 2];
  }
}

template <typename Traits>
__device__ __forceinline__ void PackProbabilities(const Scores<Traits>& scores,
                                                  ConsumerState<Traits>& state) {
#pragma unroll
  for (int i = 0; i < Traits::kTileKeys / 16; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      state.probabilities[i][j] = PackBf16(scores[i * 8 + 2 * j], scores[i * 8 + 2 * j + 1]);
    }
  }
}

// Zeroes the values of the tile beyond the last key: there may be anything, and 0 * NaN is NaN.
template <typename Traits>
__device__ __forceinline__ void ZeroValuesFrom(int first_row, unsigned char* stage) {
  constexpr int kConsumerThreads = 128 * Traits::kConsumers;
  const int rows = Traits::kTileKeys - first_row;
  for (int i = static_cast<int>(threadIdx.x) % kConsumerThreads; i < rows * 8 * Traits::kSlabs;
       i += kConsumerThreads) {
    const int slab = i / (rows * 8);
    const int piece = i % (rows * 8);
    *reinterpret_cast<uint4*>(stage + slab * Traits::kTileKeys * 128 + first_row * 128 +
                              piece * 16) = make_uint4(0, 0, 0, 0);
  }
  FenceSharedForAsync();
  SyncAt(kConsumerBarrier, kConsumerThreads);
}

// Writes the output of a warp's 16 queries by way of the memory that held the group's queries.
template <typename Traits>
__device__ __forceinline__ void WriteOutput(const AttentionArguments& args,
                                            const AttentionWork& work, const Consumer& self,
                                            unsigned char* buffer, const float (&inverse)[2],
                                            const ConsumerState<Traits>& state) {
  const int lane = self.thread % 32;
  const int first = self.group * 64 + self.thread / 32 * 16;
  SyncAt(kWarpgroupBarrier + self.group, 128);  // Its queries are not read any more.
#pragma unroll
  for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
    const float* const d =
        state.output[i / (Traits::kColumns / 8)] + i % (Traits::kColumns / 8) * 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t offset =
          SwizzledPiece<Traits::kTileQueries>(first + lane / 4 + half * 8, i) + lane % 4 * 4;
      *reinterpret_cast<uint32_t*>(buffer + offset) =
          PackBf16(d[2 * half] * inverse[half], d[2 * half + 1] * inverse[half]);
    }
  }
  __syncwarp();
  constexpr int kPieces = Traits::kHeadDim / 8;
#pragma unroll 4
  for (int i = lane; i < 16 * kPieces; i += 32) {
    const int query = first + i / kPieces;
    if (work.first_query + query >= args.queries_per_sequence) continue;
    uint16_t* const target =
        args.output + OffsetOfQuery(args, work, work.first_query + query) + i % kPieces * 8;
    *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(
        buffer + SwizzledPiece<Traits::kTileQueries>(query, i % kPieces));
  }
}

// Where the part of a query's output goes that an item has.
template <typename Traits>
__device__ __forceinline__ int64_t PartialIndex(const AttentionArguments& args,
                                                const AttentionWork& work, int query) {
  if (args.tile_parts != nullptr) {
    return int64_t{work.item} * Traits::kTileQueries + (query - work.first_query);
  }
  return work.split * int64_t{args.num_rows} * args.num_heads +
         OffsetOfQuery(args, work, query) / Traits::kHeadDim;
}

// Writes this item's part of a warp's 16 queries.
template <typename Traits>
__device__ __forceinline__ void WritePartial(const AttentionArguments& args, int64_t index,
                                             float inverse, int half,
                                             const ConsumerState<Traits>& state) {
  float* const target = args.partial_output + index * Traits::kHeadDim + threadIdx.x % 4 * 2;
#pragma unroll
  for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
    const float* const d =
        state.output[i / (Traits::kColumns / 8)] + i % (Traits::kColumns / 8) * 4;
    *reinterpret_cast<float2*>(target + i * 8) =
        make_float2(d[2 * half] * inverse, d[2 * half + 1] * inverse);
  }
}

template <typename Traits>
__device__ __forceinline__ void FinishItem(const AttentionArguments& args,
                                           const AttentionWork& work, const Consumer& self,
                                           float factor, unsigned char* buffer,
                                           ConsumerState<Traits>& state) {
  const int lane = self.thread % 32;
  const int first = work.first_query + self.group * 64 + self.thread / 32 * 16 + lane / 4;
  const bool is_split = work.num_parts > 1;
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = SumOfRow(state.sum[half]);
    inverse[half] = sum == 0.0f ? 0.0f : 1.0f / sum;
    const int query = first + half * 8;
    if (query >= args.queries_per_sequence) continue;
    const float lse = ScaledMax(state.max[half], factor) + log2f(sum);
    if (is_split) {
      const int64_t index = PartialIndex<Traits>(args, work, query);
      WritePartial<Traits>(args, index, inverse[half], half, state);
      if (lane % 4 == 0) args.partial_lse[index] = lse;
    } else if (lane % 4 == 0 && args.lse != nullptr) {
      args.lse[OffsetOfQuery(args, work, query) / Traits::kHeadDim] = lse * kLn2;
    }
  }
  if (!is_split) WriteOutput<Traits>(args, work, self, buffer, inverse, state);
}

// The multiplying threads. Both warpgroups walk the same tiles of keys.
template <typename Traits>
__device__ __forceinline__ void AttendTiles(const AttentionArguments& args,
                                            const AttentionWork& work, const Consumer& self,
                                            float factor, uint32_t queries, unsigned char* shared,
                                            Ring<Traits>& k, Ring<Traits>& v,
                                            ConsumerState<Traits>& state) {
  const int lane = self.thread % 32;
  const int first = work.first_query + self.group * 64;
  const int row = first + self.thread / 32 * 16 + lane / 4;
  const int position[2] = {args.positions[RowOfQuery(args, work, row)],
                           args.positions[RowOfQuery(args, work, row + 8)]};
  const int position_min = args.positions[RowOfQuery(args, work, first)];
  const int position_max = args.positions[RowOfQuery(args, work, first + 63)];
  const auto is_cut = [&](int tile) {
    return IsCutByMask(args, position_min, position_max, tile * Traits::kTileKeys,
                       Traits::kTileKeys);
  };
  Scores<Traits> scores;
  float rescale[2];
  int tile = work.key_tile_end - 1;
  k.WaitUntilFull();
  FenceProducts();
  StartScores<Traits>(queries, k.Stage(), scores);
  WaitForProducts<0>();
  HoldRegisters(scores);
  k.Release();
  LimitScores<Traits>(args, position, tile * Traits::kTileKeys, is_cut(tile), scores);
  UpdateSoftmax<Traits>(factor, scores, state, rescale);
  PackProbabilities<Traits>(scores, state);
  if ((tile + 1) * Traits::kTileKeys > work.key_end) {
    v.WaitUntilFull();
    ZeroValuesFrom<Traits>(work.key_end - tile * Traits::kTileKeys,
                           shared + (v.Stage() - SharedAddress(shared)));
  }
  for (--tile; tile >= work.key_tile_begin; --tile) {
    k.WaitUntilFull();
    v.WaitUntilFull();
    SyncAt(kTurnBarrier + self.group, 128 * Traits::kConsumers);
    FenceProducts();
    StartScores<Traits>(queries, k.Stage(), scores);
    StartOutput<Traits>(v.Stage(), state);
    ArriveAt(kTurnBarrier + 1 - self.group, 128 * Traits::kConsumers);
    WaitForProducts<1>();
    HoldRegisters(scores);
    k.Release();
    LimitScores<Traits>(args, position, tile * Traits::kTileKeys, is_cut(tile), scores);
    UpdateSoftmax<Traits>(factor, scores, state, rescale);
    WaitForProducts<0>();
#pragma unroll
    for (int i = 0; i < Traits::kProducts; ++i) HoldRegisters(state.output[i]);
    v.Release();
    RescaleOutput<Traits>(rescale, state);
    PackProbabilities<Traits>(scores, state);
  }
  v.WaitUntilFull();
  FenceProducts();
  StartOutput<Traits>(v.Stage(), state);
  WaitForProducts<0>();
#pragma unroll
  for (int i = 0; i < Traits::kProducts; ++i) HoldRegisters(state.output[i]);
  v.Release();
}

template <typename Traits>
__device__ __forceinline__ void ConsumeItems(const AttentionArguments& args,
                                             unsigned char* shared) {
  const Consumer self{static_cast<int>(threadIdx.x) / 128 - 1, static_cast<int>(threadIdx.x) % 128};
  Ring<Traits> k(shared, 0);
  Ring<Traits> v(shared, 1);
  // A capped score is in base 2 already.
  const float factor = Traits::kHasSoftcap ? 1.0f : args.score_factor;
  // The first turn is the first warpgroup's.
  if (self.group == 1) ArriveAt(kTurnBarrier, 128 * Traits::kConsumers);
  const HopperItems<Traits> items(args, shared);
  if (!items.Has(0)) return;
  AttentionWork work = items.At(0);
  if constexpr (Traits::kQueryBuffers == 2) {
    FetchQueries<Traits>(args, work, self, SharedAddress(shared));
  }
  for (int32_t turn = 0;; ++turn) {
    unsigned char* const buffer = shared + turn % Traits::kQueryBuffers * Traits::kQueryBytes;
    const bool has_next = items.Has(turn + 1);
    const AttentionWork next_work = items.At(has_next ? turn + 1 : turn);
    if constexpr (Traits::kQueryBuffers == 1) {
      SyncAt(kWarpgroupBarrier + self.group, 128);  // All have written their outputs.
      FetchQueries<Traits>(args, work, self, SharedAddress(buffer));
    }
    WaitForCopies<0>();
    FenceSharedForAsync();
    SyncAt(kWarpgroupBarrier + self.group, 128);
    if constexpr (Traits::kQueryBuffers == 2) {
      if (has_next) {
        FetchQueries<Traits>(
            args, next_work, self,
            SharedAddress(shared + (turn + 1) % Traits::kQueryBuffers * Traits::kQueryBytes));
      }
    }
    ConsumerState<Traits> state = {};
    state.max[0] = state.max[1] = -INFINITY;
    if (work.key_tile_begin < work.key_tile_end) {
      const uint32_t queries = SharedAddress(buffer) + self.group * 64 * 128;
      AttendTiles<Traits>(args, work, self, factor, queries, shared, k, v, state);
    }
    FinishItem<Traits>(args, work, self, factor, buffer, state);
    if (!has_next) return;
    work = next_work;
  }
}

}  // namespace intarsia::kernels
