// Bound: compute, 4 * head_dim flops for each visible key of each query.
// Design: a block for each multiprocessor stays and works off items, the longest first. One thread
// copies tiles of keys and values by pages into a ring of stages; two warpgroups have 64 queries
// each and multiply by wgmma, P from registers. While one of them multiplies, the other computes
// its softmax; and within a warpgroup Q K^T of the next tile runs ahead of P V of this one. Tiles
// of keys go from the last to the first, so that those cut by the mask come first. The queries of
// the next item are fetched during this one.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "base/result.h"
#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_rows_launch.h"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/kernel_launch.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/tensor_map.h"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {
namespace {

struct HopperArguments {
  AttentionArguments rows;
  CUtensorMap k = {};  // 64-byte aligned by its type, as copies want it
  CUtensorMap v = {};
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
  static constexpr int kSharedBytes = kBarrierOffset + 4 * kStages * 8;
  // Of a thread: 168 at launch, as many in all after they have changed hands.
  static constexpr int kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = 240;

  static_assert(kSharedBytes <= 227 * 1024, "what a block of sm_90 may have");
  static_assert(kTileBytes % 1024 == 0 && kQueryBytes % 1024 == 0, "the swizzle's period");
  static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= 512, "of 128 threads");
};

// Barriers of the block by number: 0 is __syncthreads.
constexpr int kTurnBarrier = 1;       // + warpgroup: whose turn it is to multiply
constexpr int kWarpgroupBarrier = 3;  // + warpgroup: among its own threads
constexpr int kConsumerBarrier = 5;   // of all consumers

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

template <typename Traits>
__device__ __forceinline__ AttentionWork HopperWork(const AttentionArguments& args, int32_t item) {
  return WorkOfItem<Traits::kTileQueries, Traits::kTileKeys>(args, item);
}

// The copying thread: for each tile of keys of each item, K and V by slabs.
template <typename Traits>
__device__ __forceinline__ void CopyTiles(const HopperArguments& hopper, unsigned char* shared) {
  const AttentionArguments& args = hopper.rows;
  Ring<Traits> k(shared, 0);
  Ring<Traits> v(shared, 1);
  constexpr uint32_t kSlabBytes = Traits::kTileKeys * 128;
  for (int32_t turn = 0;; ++turn) {
    const int32_t item = OwnItem(turn);
    if (item >= args.num_items) return;
    const AttentionWork work = HopperWork<Traits>(args, item);
    for (int tile = work.key_tile_end - 1; tile >= work.key_tile_begin; --tile) {
      const auto row = static_cast<int32_t>(OffsetOfKeyTile<Traits::kTileKeys>(args, work, tile) /
                                            Traits::kHeadDim);
      k.WaitUntilEmpty();
      ArriveAndExpectBytes(k.Full(), Traits::kTileBytes);
#pragma unroll
      for (int i = 0; i < Traits::kSlabs; ++i) {
        CopyBox(k.Stage() + i * kSlabBytes, &hopper.k, k.Full(), i * 64, row);
      }
      k.Advance();
      v.WaitUntilEmpty();
      ArriveAndExpectBytes(v.Full(), Traits::kTileBytes);
#pragma unroll
      for (int i = 0; i < Traits::kSlabs; ++i) {
        CopyBox(v.Stage() + i * kSlabBytes, &hopper.v, v.Full(), i * 64, row);
      }
      v.Advance();
    }
  }
}

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

// Byte of a 16-byte piece of a query in a buffer: slabs of 64 elements, rows of 128 bytes,
// swizzled.
template <typename Traits>
__device__ __forceinline__ uint32_t QueryPiece(int query, int piece) {
  return static_cast<uint32_t>(piece / 8 * Traits::kTileQueries * 128 + query * 128 +
                               ((piece % 8 ^ query % 8) << 4));
}

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
    CopyAsync16(buffer + QueryPiece<Traits>(query, i % kPieces), source, 16);
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
#pragma unroll
  for (int i = 0; i < Traits::kTileKeys / 2; ++i) {
    if (!IsVisible(args, position[i / 2 % 2], first + i / 4 * 8 + i % 2)) scores[i] = -INFINITY;
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
      const uint32_t offset = QueryPiece<Traits>(first + lane / 4 + half * 8, i) + lane % 4 * 4;
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
    *reinterpret_cast<uint4*>(target) =
        *reinterpret_cast<const uint4*>(buffer + QueryPiece<Traits>(query, i % kPieces));
  }
}

// Writes this split's part of a warp's 16 queries.
template <typename Traits>
__device__ __forceinline__ void WritePartial(const AttentionArguments& args,
                                             const AttentionWork& work, int query, float inverse,
                                             int half, const ConsumerState<Traits>& state) {
  const int64_t num_queries = int64_t{args.num_rows} * args.num_heads;
  float* const target = args.partial_output + work.split * num_queries * Traits::kHeadDim +
                        OffsetOfQuery(args, work, query) + threadIdx.x % 4 * 2;
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
  const int64_t num_queries = int64_t{args.num_rows} * args.num_heads;
  const bool is_split = args.num_splits > 1;
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = SumOfRow(state.sum[half]);
    inverse[half] = sum == 0.0f ? 0.0f : 1.0f / sum;
    const int query = first + half * 8;
    if (query >= args.queries_per_sequence) continue;
    const float lse = ScaledMax(state.max[half], factor) + log2f(sum);
    const int64_t index = OffsetOfQuery(args, work, query) / Traits::kHeadDim;
    if (is_split) {
      WritePartial<Traits>(args, work, query, inverse[half], half, state);
      if (lane % 4 == 0) args.partial_lse[work.split * num_queries + index] = lse;
    } else if (lane % 4 == 0 && args.lse != nullptr) {
      args.lse[index] = lse * kLn2;
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
  int32_t item = OwnItem(0);
  if (item >= args.num_items) return;
  AttentionWork work = HopperWork<Traits>(args, item);
  if constexpr (Traits::kQueryBuffers == 2) {
    FetchQueries<Traits>(args, work, self, SharedAddress(shared));
  }
  for (int32_t turn = 0;; ++turn) {
    unsigned char* const buffer = shared + turn % Traits::kQueryBuffers * Traits::kQueryBytes;
    const int32_t next_item = OwnItem(turn + 1);
    const AttentionWork next_work =
        HopperWork<Traits>(args, next_item < args.num_items ? next_item : item);
    if constexpr (Traits::kQueryBuffers == 1) {
      SyncAt(kWarpgroupBarrier + self.group, 128);  // All have written their outputs.
      FetchQueries<Traits>(args, work, self, SharedAddress(buffer));
    }
    WaitForCopies<0>();
    FenceSharedForAsync();
    SyncAt(kWarpgroupBarrier + self.group, 128);
    if constexpr (Traits::kQueryBuffers == 2) {
      if (next_item < args.num_items) {
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
    if (next_item >= args.num_items) return;
    item = next_item;
    work = next_work;
  }
}

// Grid: at most one block for each multiprocessor. Block: a warpgroup of which one thread copies,
// then kConsumers warpgroups of 64 queries each.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    AttentionRowsSm90Kernel(const __grid_constant__ HopperArguments hopper) {
  unsigned char* const shared = DynamicShared();
  if (threadIdx.x == 0) {
    const uint32_t barriers = SharedAddress(shared) + Traits::kBarrierOffset;
    for (int ring = 0; ring < 2; ++ring) {
      for (int i = 0; i < Traits::kStages; ++i) {
        const uint32_t full = barriers + (ring * 2 * Traits::kStages + i) * 8;
        InitBarrier(full, 1);
        InitBarrier(full + Traits::kStages * 8, 4 * Traits::kConsumers);
      }
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ReleaseRegisters<Traits::kProducerRegisters>();
    if (threadIdx.x == 0) CopyTiles<Traits>(hopper, shared);
  } else {
    ClaimRegisters<Traits::kConsumerRegisters>();
    ConsumeItems<Traits>(hopper.rows, shared);
  }
}

template <int kHeadDim, bool kHasSoftcap>
Status LaunchHopper(const AttentionArguments& args, int32_t num_multiprocessors, Stream stream) {
  using Traits = HopperTraits<kHeadDim, kHasSoftcap>;
  TensorMapShape shape{.data = args.layer.k_pages,
                       .num_rows = args.layer.num_pages * args.layer.num_kv_heads * kPageTokens,
                       .num_columns = kHeadDim,
                       .box_rows = Traits::kTileKeys};
  HopperArguments hopper;
  hopper.rows = args;
  INTARSIA_ASSIGN_OR_RETURN(hopper.k, MakeTensorMap(shape));
  shape.data = args.layer.v_pages;
  INTARSIA_ASSIGN_OR_RETURN(hopper.v, MakeTensorMap(shape));
  const auto num_blocks = static_cast<unsigned>(std::min(args.num_items, num_multiprocessors));
  return LaunchKernel("attention_rows_sm90", AttentionRowsSm90Kernel<Traits>,
                      {.num_blocks = num_blocks,
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::kSharedBytes,
                       .stream = stream},
                      hopper);
}

}  // namespace

Status LaunchAttentionRowsSm90(const AttentionArguments& args, int32_t num_multiprocessors,
                               Stream stream) {
  const bool has_softcap = args.cap_log2 > 0.0f;
  switch (args.layer.head_dim) {
    case 64:
      return has_softcap ? LaunchHopper<64, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<64, false>(args, num_multiprocessors, stream);
    case 128:
      return has_softcap ? LaunchHopper<128, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<128, false>(args, num_multiprocessors, stream);
    case 256:
      return has_softcap ? LaunchHopper<256, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<256, false>(args, num_multiprocessors, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_rows: head_dim not compiled in");
  }
}

}  // namespace intarsia::kernels
