// What warps do with mma.sync in the CUDA kernels of attention: queries as fragments, their scores
// with a tile of keys, softcap and mask.
//
// A Traits gives kHeadDim, kRowBytes (2 * kHeadDim), kWarpKeys (keys that a warp works on),
// kHasSoftcap, kQueriesInRegisters (else they are kept in shared memory), and for copies kTileKeys
// and kThreads.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {

// Where a 16-byte piece of a row lies: rows follow each other, and the pieces of every 128 bytes
// are permuted by the row, so that 8 rows at one piece fall into different banks.
template <typename Traits>
__device__ __forceinline__ uint32_t PieceOffset(int row, int piece) {
  return static_cast<uint32_t>(row * Traits::kRowBytes + ((piece ^ (row & 7)) << 4));
}

// Starts to copy the rows of a tile of keys or values, of which those from `num_rows` on become 0:
// there may be anything, and 0 * NaN is NaN. All kThreads of the block take part.
template <typename Traits>
__device__ __forceinline__ void StartCopy(const uint16_t* source, int num_rows, uint32_t shared) {
  constexpr int kPieces = Traits::kRowBytes / 16;
  static_assert(Traits::kTileKeys * kPieces % Traits::kThreads == 0, "no thread is left over");
#pragma unroll
  for (int i = 0; i < Traits::kTileKeys * kPieces / Traits::kThreads; ++i) {
    const int index = i * Traits::kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kPieces;
    const int piece = index % kPieces;
    CopyAsync16(shared + PieceOffset<Traits>(row, piece),
                source + row * Traits::kHeadDim + piece * 8, row < num_rows ? 16 : 0);
  }
}

// A fragment of Q for each 16 elements of the head, from memory or by way of shared memory.
template <typename Traits>
struct Queries {
  uint32_t fragments[Traits::kQueriesInRegisters ? Traits::kHeadDim / 16 : 1][4];
  uint32_t shared;

  __device__ __forceinline__ void Load(const AttentionArguments& args, const AttentionWork& work,
                                       int first_query, unsigned char* memory) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if constexpr (Traits::kQueriesInRegisters) {
      const uint16_t* const upper = args.q + OffsetOfQuery(args, work, first_query + lane / 4);
      const uint16_t* const lower = args.q + OffsetOfQuery(args, work, first_query + lane / 4 + 8);
#pragma unroll
      for (int i = 0; i < Traits::kHeadDim / 16; ++i) {
        const int column = i * 16 + lane % 4 * 2;
        fragments[i][0] = *reinterpret_cast<const uint32_t*>(upper + column);
        fragments[i][1] = *reinterpret_cast<const uint32_t*>(lower + column);
        fragments[i][2] = *reinterpret_cast<const uint32_t*>(upper + column + 8);
        fragments[i][3] = *reinterpret_cast<const uint32_t*>(lower + column + 8);
      }
    } else {
      // A warp reads what it wrote itself.
      const int local = first_query - work.first_query;
      shared = SharedAddress(memory) + static_cast<uint32_t>(local * Traits::kRowBytes);
      constexpr int kPieces = Traits::kRowBytes / 16;
      for (int i = lane; i < 16 * kPieces; i += 32) {
        const int row = i / kPieces;
        const uint16_t* const source =
            args.q + OffsetOfQuery(args, work, first_query + row) + i % kPieces * 8;
        *reinterpret_cast<uint4*>(memory + local * Traits::kRowBytes +
                                  PieceOffset<Traits>(row, i % kPieces)) =
            *reinterpret_cast<const uint4*>(source);
      }
      __syncwarp();
    }
  }

  __device__ __forceinline__ void Get(int index, uint32_t (&fragment)[4]) const {
    if constexpr (Traits::kQueriesInRegisters) {
#pragma unroll
      for (int i = 0; i < 4; ++i) fragment[i] = fragments[index][i];
    } else {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      LoadMatrices(fragment, shared + PieceOffset<Traits>(lane % 16, index * 2 + lane / 16));
    }
  }
};

// scores [16 queries, kWarpKeys] = Q K^T
template <typename Traits>
__device__ __forceinline__ void MultiplyKeys(const Queries<Traits>& queries, uint32_t k_shared,
                                             float (&scores)[Traits::kWarpKeys / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < Traits::kWarpKeys / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) scores[i][j] = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < Traits::kHeadDim / 16; ++step) {
    uint32_t query[4];
    queries.Get(step, query);
#pragma unroll
    for (int i = 0; i < Traits::kWarpKeys / 16; ++i) {
      uint32_t keys[4];
      const int row = i * 16 + lane / 16 * 8 + lane % 8;
      LoadMatrices(keys, k_shared + PieceOffset<Traits>(row, step * 2 + lane / 8 % 2));
      MultiplyAdd(scores[2 * i], query, keys[0], keys[1]);
      MultiplyAdd(scores[2 * i + 1], query, keys[2], keys[3]);
    }
  }
}

// Applies softcap and mask to the scores of keys [key, key + kWarpKeys).
template <typename Traits>
__device__ __forceinline__ void LimitScores(const AttentionArguments& args,
                                            const int (&position)[2], int key, bool is_masked,
                                            float (&scores)[Traits::kWarpKeys / 8][4]) {
  if constexpr (Traits::kHasSoftcap) {
#pragma unroll
    for (int i = 0; i < Traits::kWarpKeys / 2; ++i) {
      scores[i / 4][i % 4] = SoftcapScore(args, scores[i / 4][i % 4]);
    }
  }
  if (!is_masked) return;
  const int first = key + static_cast<int>(threadIdx.x) % 4 * 2;
  const VisibleKeys visible[2] = {VisibleKeysOf(args, position[0], first),
                                  VisibleKeysOf(args, position[1], first)};
#pragma unroll
  for (int i = 0; i < Traits::kWarpKeys / 2; ++i) {
    if (!visible[i / 2 % 2].Has(i / 4 * 8 + i % 2)) scores[i / 4][i % 4] = -INFINITY;
  }
}

}  // namespace intarsia::kernels
