// What the kernels of BinaryBatchScanCuda share: how queries lie for the tensor cores, how bits
// become bytes, and what becomes of products. Internal to kernels/.
//
// A product of 32 dimensions takes, in lane t of four, bits 2m and 2m + 1 of each byte of one word
// of a code, so that a byte is a shift and a mask away; words are those of the pieces t, t + 4, ..
// of a plane. Queries are permuted accordingly. The mask leaves 128 for a set bit, so a sum is 128
// times that of the levels and the query. The higher plane comes first and is doubled.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/binary_batch_scan_cuda.h"
#include "kernels/prospect_workspace.cuh"
#include "kernels/row_lists.cuh"

namespace intarsia::kernels {

inline constexpr int kChunkPieces = 4;  // a lane's share of a chunk is one piece
inline constexpr int kChunkDims = kChunkPieces * 128;
inline constexpr int kChunkProducts = kChunkDims / 32;
inline constexpr int kBatchTileRows = 64;  // of a sample's part, and of a warp or warpgroup

struct BatchQuery {
  BinaryQueryFactors factors;
  int32_t excess;  // what is subtracted of twice the sum of levels and query
};

enum class BatchPart : uint8_t { kSample, kAll };

struct BatchArguments {
  BinaryBatchScanCudaParams params;
  ProspectWorkspace workspace;
  int8_t* permuted = nullptr;     // [num_queries, num_chunks * kChunkDims]
  BatchQuery* queries = nullptr;  // [num_queries]
  int32_t num_chunks = 0;         // of a plane
  int32_t plane_pieces = 0;
  int32_t row_pieces = 0;
  int32_t num_parts = 0;  // tiles of rows that a sample takes some of
  int32_t first_query = 0;
  int32_t num_queries = 0;  // from the first one, that a launch multiplies
  BatchPart part = BatchPart::kAll;
};

// The dimension at a place of a permuted query.
__device__ __forceinline__ int DimensionAt(int place) {
  const int product = place / 32;
  const int m = product % 4;
  const int c = product / 4 % 4;
  const int j = product / kChunkProducts;
  const int t = place % 16 / 4;
  const int bit = 2 * m + place % 32 / 16 + 8 * (place % 4);
  return ((j * kChunkPieces + t) * 4 + c) * 32 + bit;
}

// Four bits of a word, one a byte, as 0 or 128.
template <int kBit>
__device__ __forceinline__ uint32_t BytesOf(uint32_t word) {
  static_assert(kBit >= 0 && kBit < 8, "a bit of each byte");
  return (word << (7 - kBit)) & 0x80808080u;
}

// The least sum with which a row within `bounds` may have a limit of at least `threshold`, in the
// scale of the sums: a limit grows with the sum, unless a scale is negative; then, and where
// something is not a number, any sum may. The margins are several times what rounding can do.
__device__ inline int LeastSum(const float4& bounds, const BatchQuery& query, float threshold) {
  constexpr float kMost = 8'388'608.0f;  // more than any product
  const BinaryQueryFactors& factors = query.factors;
  const float low = fminf(bounds.x * factors.step, bounds.y * factors.step);
  const float high = fmaxf(bounds.x * factors.step, bounds.y * factors.step);
  const float error = factors.error_bound * bounds.w;
  const float size = fabsf(threshold) + fabsf(error) + fabsf(bounds.z) + fabsf(factors.base);
  const float missing = threshold - error - bounds.z - factors.base - 1e-6f * size;
  float product = -kMost;
  if (low >= 0.0f && high > 0.0f) {
    const float ratio = missing / fabsf(missing > 0.0f ? high : low);  // -0 is not below 0
    if (ratio > -kMost) product = fminf(ratio - 2e-6f * fabsf(ratio), kMost);
  } else if (low == 0.0f && high == 0.0f && missing > 0.0f) {
    product = kMost;
  }
  return (static_cast<int>(floorf(product)) - 1 + query.excess) * 64;
}

// A warp's rows: `num_rows` from `begin` on, or those of a list, which counts from there.
struct BatchRows {
  int64_t begin = 0;
  int num_rows = 0;
  const uint16_t* list = nullptr;

  // From `begin`; that of the last row behind it.
  __device__ int OffsetOf(int index) const {
    const int at = index < num_rows ? index : num_rows - 1;
    return list == nullptr ? at : int{list[at]};
  }
  // -1 behind the last.
  __device__ int64_t RowOf(int index) const {
    return index < num_rows ? begin + OffsetOf(index) : -1;
  }
};

// The bounds of a warp's rows.
template <int kRows>
__device__ inline float4 BoundsOfRows(const BinaryRows& rows, const BatchRows& own) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float4 all = make_float4(__int_as_float(0x7f800000), -__int_as_float(0x7f800000),
                           -__int_as_float(0x7f800000), -__int_as_float(0x7f800000));
#pragma unroll
  for (int i = 0; i < kRows; i += 32) {
    const int64_t row = own.RowOf(i + lane);
    if (row < 0) continue;
    const float4 one = BoundsOf(rows, row / kBinaryTileRows);
    all = make_float4(fminf(all.x, one.x), fmaxf(all.y, one.y), fmaxf(all.z, one.z),
                      fmaxf(all.w, one.w));
  }
#pragma unroll
  for (int step = 16; step >= 1; step /= 2) {
    all.x = fminf(all.x, __shfl_xor_sync(0xffffffffu, all.x, step));
    all.y = fmaxf(all.y, __shfl_xor_sync(0xffffffffu, all.y, step));
    all.z = fmaxf(all.z, __shfl_xor_sync(0xffffffffu, all.z, step));
    all.w = fmaxf(all.w, __shfl_xor_sync(0xffffffffu, all.w, step));
  }
  return all;
}

// What a warp has in shared memory of its sums with kQueries queries.
template <int kQueries>
struct BatchWarpShared {
  static constexpr int kColumns = kQueries < 32 ? kQueries : 32;  // that are looked at together
  int32_t sums[16 * kColumns];                                    // of 16 rows
  int32_t least[kQueries];                                        // sums that may matter
  uint32_t best[kQueries];                                        // of a sample: the highest key
};

template <int kQueries>
__device__ inline void SetLeastSums(const BatchArguments& arguments, const float4& bounds,
                                    BatchWarpShared<kQueries>* shared) {
  __syncwarp();
  for (int q = static_cast<int>(threadIdx.x) % 32; q < kQueries; q += 32) {
    int least = 0x7fffffff;
    if (q < arguments.num_queries) {
      const ProspectState& state = arguments.workspace.states[arguments.first_query + q];
      if (arguments.part == BatchPart::kSample) {
        least = -0x7fffffff;
        shared->best[q] = 0;
      } else if (state.is_complete == 0) {
        least = LeastSum(bounds, arguments.queries[arguments.first_query + q],
                         ThresholdOf(state.threshold));
      }
    }
    shared->least[q] = least;
  }
  __syncwarp();
}

// Looks at the sums in `shared`: of 16 rows from number `first_row` of the warp's on, and of
// kColumns queries of the launch from `first_column` on.
template <int kQueries>
__device__ inline void VisitSums(const BatchArguments& arguments, const BatchRows& own,
                                 int first_row, int first_column,
                                 BatchWarpShared<kQueries>* shared) {
  constexpr int kColumns = BatchWarpShared<kQueries>::kColumns;
  const BinaryRows& rows = arguments.params.rows;
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x) % 32; i < 16 * kColumns; i += 32) {
    const int q = first_column + i % kColumns;
    const int sum = shared->sums[i];
    if (sum < shared->least[q] || q >= arguments.num_queries) continue;
    const int64_t row = own.RowOf(first_row + i / kColumns);
    if (row < 0) continue;
    const int64_t number = arguments.first_query + q;
    const BatchQuery query = arguments.queries[number];
    const BinaryFactors factors = FactorsOf(rows, row);
    const float score =
        BinaryScoreOf(factors, query.factors, static_cast<float>(sum / 64 - query.excess));
    const float lower = BinaryLowerOf(factors, query.factors, score);
    const float limit = BinaryLimitOf(factors, query.factors, score);
    if (arguments.part == BatchPart::kAll) {
      AddProspect(arguments.workspace, number, arguments.workspace.states[number].threshold,
                  static_cast<int32_t>(row), lower, limit);
    } else if (lower <= limit && (arguments.params.filter == nullptr ||
                                  (arguments.params.filter[row / 32] >> (row % 32) & 1u) != 0)) {
      atomicMax(&shared->best[q], KeyOf(lower));
    }
  }
  __syncwarp();
}

// The same of sums as C of products lies over a warp, if any of them may matter.
template <int kQueries, int kSize>
__device__ __forceinline__ void VisitFragments(const BatchArguments& arguments,
                                               const BatchRows& own, int first_row,
                                               const int (&sums)[kSize],
                                               BatchWarpShared<kQueries>* shared) {
  static_assert(kSize == kQueries / 2, "four sums for every eight queries");
  constexpr int kColumns = BatchWarpShared<kQueries>::kColumns;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int first = 0; first < kQueries; first += kColumns) {
    bool may_matter = false;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      const int2 least =
          *reinterpret_cast<const int2*>(shared->least + first + n * 8 + lane % 4 * 2);
      const int* const four = sums + (first / 8 + n) * 4;
      may_matter = may_matter || four[0] >= least.x || four[1] >= least.y || four[2] >= least.x ||
                   four[3] >= least.y;
    }
    if (__any_sync(0xffffffffu, may_matter ? 1 : 0) == 0) continue;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        shared->sums[(lane / 4 + e / 2 * 8) * kColumns + n * 8 + lane % 4 * 2 + e % 2] =
            sums[(first / 8 + n) * 4 + e];
      }
    }
    VisitSums(arguments, own, first_row, first, shared);
  }
}

// Writes what VisitSums found of tile `seed` of a sample.
template <int kQueries>
__device__ inline void WriteSeeds(const BatchArguments& arguments, int seed,
                                  const BatchWarpShared<kQueries>& shared) {
  for (int q = static_cast<int>(threadIdx.x) % 32; q < arguments.num_queries && q < kQueries;
       q += 32) {
    const int64_t number = arguments.first_query + q;
    arguments.workspace.seeds[number * arguments.workspace.num_seeds + seed] = shared.best[q];
  }
}

// Whether none of a launch's queries wants a pass any more.
__device__ inline bool AreComplete(const BatchArguments& arguments) {
  if (arguments.part == BatchPart::kSample) return false;
  for (int q = 0; q < arguments.num_queries; ++q) {
    if (arguments.workspace.states[arguments.first_query + q].is_complete == 0) return false;
  }
  return true;
}

// In binary_batch_scan_sm90.cu. Whether there is a kernel for queries of this size.
bool CanScanSm90(const BatchArguments& arguments);
// Enqueues the launches of a part for all queries. Errors: kInternal.
// REQUIRES: a device of compute capability 9.0, and CanScanSm90().
Status LaunchBatchScanSm90(BatchArguments arguments, int num_multiprocessors, Stream stream);

}  // namespace intarsia::kernels
