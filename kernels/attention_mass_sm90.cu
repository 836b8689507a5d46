// Bound: compute. 2 * head_dim flops of the tensor cores for each visible key of each query, and an
// exponential, of which a multiprocessor makes 16 a clock: at head_dim 128 either takes as long.
// Design: a block for each 128 keys and kv head; its two warpgroups hold 64 keys each, as the left
// side of wgmma, and go over all queries in chunks of 64, which are fetched while the chunk before
// is worked on. A thread then has two keys and sums up their probabilities by itself; four lanes
// are added at the end. Three blocks share a multiprocessor, so that one multiplies while another
// computes exponentials.
#include <cmath>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/attention_mass_launch.h"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/swizzled_rows.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {
namespace {

constexpr int kChunkQueries = 64;

template <int kHeadDim_, bool kHasSoftcap_>
struct MassSm90Traits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kHasSoftcap = kHasSoftcap_;
  static constexpr int kTileKeys = 128;
  static constexpr int kThreads = 2 * kTileKeys;          // a warpgroup has 64 keys
  static constexpr int kBlocks = kHeadDim > 128 ? 1 : 3;  // of a multiprocessor
  static constexpr int kKeyBytes = kTileKeys * kHeadDim * 2;
  static constexpr int kChunkBytes = kChunkQueries * kHeadDim * 2;
  static constexpr int kRowsOffset = kKeyBytes + 2 * kChunkBytes;
  static constexpr int kSharedBytes = kRowsOffset + 2 * kChunkQueries * 12;

  static_assert(kBlocks * (kSharedBytes + 1024) <= 227 * 1024, "what blocks of sm_90 may have");
  static_assert(kKeyBytes % 1024 == 0 && kChunkBytes % 1024 == 0, "the swizzle's period");
};

// What is known of the queries of a chunk.
struct ChunkRows {
  float4 lse_and_weight[kChunkQueries / 2];  // of two queries: base 2, and 1 / num_heads of a row's
  int2 positions[kChunkQueries / 2];

  __device__ int position_min() const { return positions[0].x; }
  __device__ int position_max() const { return positions[kChunkQueries / 2 - 1].y; }
};
static_assert(sizeof(ChunkRows) == kChunkQueries * 12, "as Traits have it");

// A block's place.
struct MassBlock {
  AttentionWork work;
  int key;  // the first
  unsigned char* shared;
};

template <typename Traits>
__device__ __forceinline__ ChunkRows* RowsOf(const MassBlock& block, int buffer) {
  return reinterpret_cast<ChunkRows*>(block.shared + Traits::kRowsOffset) + buffer;
}

// Starts to fetch the block's keys; those beyond the last one, which may be anything, become 0.
template <typename Traits>
__device__ __forceinline__ void FetchKeys(const MassArguments& args, const MassBlock& block,
                                          int key_tile) {
  constexpr int kPieces = Traits::kHeadDim / 8;
  const uint16_t* const keys =
      args.rows.layer.k_pages + OffsetOfKeyTile<Traits::kTileKeys>(args.rows, block.work, key_tile);
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < Traits::kTileKeys * kPieces;
       i += Traits::kThreads) {
    const int row = i / kPieces;
    CopyAsync16(SharedAddress(block.shared) + SwizzledPiece<Traits::kTileKeys>(row, i % kPieces),
                keys + row * Traits::kHeadDim + i % kPieces * 8,
                block.key + row < args.num_keys ? 16 : 0);
  }
}

// Starts to fetch the queries from `first` on. Those without weight become 0, because they may be
// NaN. Threads share a query, so that each has to find one alone.
template <typename Traits>
__device__ __forceinline__ void FetchChunk(const MassArguments& args, const MassBlock& block,
                                           int first, int buffer) {
  constexpr int kThreadsOfQuery = Traits::kThreads / kChunkQueries;
  const int local = static_cast<int>(threadIdx.x) / kThreadsOfQuery;
  const int part = static_cast<int>(threadIdx.x) % kThreadsOfQuery;
  const int query = first + local;
  const int row = RowOfQuery(args.rows, block.work, query);
  const int64_t offset = OffsetOfQuery(args.rows, block.work, query);
  const float weight = query < args.rows.queries_per_sequence ? args.weights[row] : 0.0f;
  const uint32_t target =
      SharedAddress(block.shared) + Traits::kKeyBytes + buffer * Traits::kChunkBytes;
#pragma unroll
  for (int piece = part; piece < Traits::kHeadDim / 8; piece += kThreadsOfQuery) {
    CopyAsync16(target + SwizzledPiece<kChunkQueries>(local, piece),
                args.rows.q + offset + piece * 8, weight != 0.0f ? 16 : 0);
  }
  CommitCopies();
  if (part != 0) return;
  constexpr float kLog2E = 1.0f / kLn2;
  ChunkRows* const rows = RowsOf<Traits>(block, buffer);
  reinterpret_cast<float2*>(rows->lse_and_weight)[local] =
      weight != 0.0f ? make_float2(args.lse[offset / Traits::kHeadDim] * kLog2E,
                                   weight / static_cast<float>(args.rows.num_heads))
                     : make_float2(0.0f, 0.0f);
  reinterpret_cast<int*>(rows->positions)[local] = args.rows.positions[row];
}

// Starts scores [64 keys, kChunkQueries] = K Q^T.
template <typename Traits>
__device__ __forceinline__ void StartScores(const MassBlock& block, int buffer,
                                            float (&scores)[kChunkQueries / 2]) {
  const uint32_t keys = SharedAddress(block.shared) + threadIdx.x / 128 * 64 * 128;
  const uint32_t queries =
      SharedAddress(block.shared) + Traits::kKeyBytes + buffer * Traits::kChunkBytes;
  FenceProducts();
#pragma unroll
  for (int step = 0; step < Traits::kHeadDim / 16; ++step) {
    const uint32_t slab = step / 4;
    const uint32_t within = step % 4 * 32;
    const uint64_t a = MatrixDescriptor(keys + slab * Traits::kTileKeys * 128 + within, 1024, 0);
    const uint64_t b = MatrixDescriptor(queries + slab * kChunkQueries * 128 + within, 1024, 0);
    MultiplyShared(scores, a, b, step == 0 ? 0 : 1);
  }
  CommitProducts();
}

// Applies softcap and mask to the scores of keys `key` and `key` + 8.
template <typename Traits>
__device__ __forceinline__ void LimitChunk(const MassArguments& args, const ChunkRows& rows,
                                           int key, bool is_masked,
                                           float (&scores)[kChunkQueries / 2]) {
  if constexpr (Traits::kHasSoftcap) {
#pragma unroll
    for (int i = 0; i < kChunkQueries / 2; ++i) scores[i] = SoftcapScore(args.rows, scores[i]);
  }
  if (!is_masked) return;
#pragma unroll
  for (int i = 0; i < kChunkQueries / 8; ++i) {
    const int2 position = rows.positions[i * 4 + threadIdx.x % 4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float* const pair = scores + i * 4 + half * 2;
      if (!VisibleKeysOf(args.rows, position.x, key).Has(half * 8)) pair[0] = -INFINITY;
      if (!VisibleKeysOf(args.rows, position.y, key).Has(half * 8)) pair[1] = -INFINITY;
    }
  }
}

// Adds what the chunk's queries give to keys `key` and `key` + 8 to the two sums.
template <typename Traits>
__device__ __forceinline__ void AddChunk(const MassArguments& args, const ChunkRows& rows,
                                         const float (&scores)[kChunkQueries / 2],
                                         float (&sums)[2]) {
  // A capped score is in base 2 already.
  const float factor = Traits::kHasSoftcap ? 1.0f : args.rows.score_factor;
#pragma unroll
  for (int i = 0; i < kChunkQueries / 8; ++i) {
    const float4 two = rows.lse_and_weight[i * 4 + threadIdx.x % 4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* const pair = scores + i * 4 + half * 2;
      sums[half] = fmaf(two.y, Exp2Fast(fmaf(pair[0], factor, -two.x)), sums[half]);
      sums[half] = fmaf(two.w, Exp2Fast(fmaf(pair[1], factor, -two.z)), sums[half]);
    }
  }
}

// The first chunk of queries of which one sees the block's first key, rows being sorted; one beyond
// all of them if there is none.
template <typename Traits>
__device__ __forceinline__ int FirstChunk(const MassArguments& args, const MassBlock& block) {
  int first = 0;
  while (first < args.rows.queries_per_sequence &&
         args.rows.positions[RowOfQuery(args.rows, block.work, first + kChunkQueries - 1)] <
             block.key) {
    first += kChunkQueries;
  }
  return first;
}

// Grid: tiles of keys x kv heads, the kv heads of a tile following each other. Block: kThreads.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    AttentionMassSm90Kernel(const __grid_constant__ MassArguments args) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int num_kv_heads = args.rows.layer.num_kv_heads;
  const int key_tile = static_cast<int>(blockIdx.x) / num_kv_heads;
  MassBlock block{.work = {}, .key = key_tile * Traits::kTileKeys, .shared = DynamicShared()};
  block.work.kv_head = static_cast<int>(blockIdx.x) % num_kv_heads;
  block.work.page_table = args.rows.layer.page_table;
  FetchKeys<Traits>(args, block, key_tile);
  int first = FirstChunk<Traits>(args, block);
  FetchChunk<Traits>(args, block, first, 0);

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_key = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  float sums[2] = {};
  for (int buffer = 0; first < args.rows.queries_per_sequence; buffer ^= 1) {
    WaitForCopies<0>();
    FenceSharedForAsync();
    __syncthreads();  // The chunk is here for all, and nobody reads the one before any more.
    float scores[kChunkQueries / 2];
    StartScores<Traits>(block, buffer, scores);
    first += kChunkQueries;
    if (first < args.rows.queries_per_sequence) {
      FetchChunk<Traits>(args, block, first, buffer ^ 1);
    }
    WaitForProducts<0>();
    HoldRegisters(scores);
    const ChunkRows& rows = *RowsOf<Traits>(block, buffer);
    const bool is_masked = IsCutByMask(args.rows, rows.position_min(), rows.position_max(),
                                       block.key, Traits::kTileKeys);
    LimitChunk<Traits>(args, rows, block.key + own_key, is_masked, scores);
    AddChunk<Traits>(args, rows, scores, sums);
  }
  WaitForCopies<0>();
  float* const target = args.partial + int64_t{block.work.kv_head} * args.num_keys;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = SumOfRow(sums[half]);
    const int key = block.key + own_key + half * 8;
    if (lane % 4 == 0 && key < args.num_keys) target[key] = sum;
  }
}

template <int kHeadDim, bool kHasSoftcap>
Status LaunchMassSm90(const MassArguments& args, Stream stream) {
  using Traits = MassSm90Traits<kHeadDim, kHasSoftcap>;
  INTARSIA_ASSIGN_OR_RETURN(const unsigned num_blocks, NumMassBlocks(args, Traits::kTileKeys));
  return LaunchBehind("attention_mass_sm90", AttentionMassSm90Kernel<Traits>,
                      {.num_blocks = num_blocks,
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::kSharedBytes,
                       .stream = stream},
                      args);
}

}  // namespace

Status LaunchAttentionMassSm90(const MassArguments& args, Stream stream) {
  const bool has_softcap = args.rows.cap_log2 > 0.0f;
  switch (args.rows.layer.head_dim) {
    case 64:
      return has_softcap ? LaunchMassSm90<64, true>(args, stream)
                         : LaunchMassSm90<64, false>(args, stream);
    case 128:
      return has_softcap ? LaunchMassSm90<128, true>(args, stream)
                         : LaunchMassSm90<128, false>(args, stream);
    case 256:
      return has_softcap ? LaunchMassSm90<256, true>(args, stream)
                         : LaunchMassSm90<256, false>(args, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_mass: head_dim not compiled in");
  }
}

}  // namespace intarsia::kernels
