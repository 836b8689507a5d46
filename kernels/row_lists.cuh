// What scans of BinaryRows share on a device: a filter's rows as lists, factors and bounds.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/binary_estimate.h"
#include "kernels/binary_rows.h"

namespace intarsia::kernels {

// A span is what one list numbers.
inline constexpr int kSpanTiles = 32;
inline constexpr int kSpanRows = kSpanTiles * static_cast<int>(kBinaryTileRows);

__device__ __forceinline__ BinaryFactors FactorsOf(const BinaryRows& rows, int64_t row) {
  return {rows.scales[row], rows.offsets[row], rows.errors[row]};
}

__device__ __forceinline__ float4 BoundsOf(const BinaryRows& rows, int64_t tile) {
  return *reinterpret_cast<const float4*>(rows.bounds + tile);
}

// Lists the rows that `filter` leaves of a span, in order. A warp calls it. Returns their number.
__device__ __forceinline__ int ListSpan(const BinaryRows& rows, const uint32_t* filter, int span,
                                        uint16_t* list) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t tile = int64_t{span} * kSpanTiles + lane;
  const int64_t rest = rows.num_rows - tile * kBinaryTileRows;
  uint32_t bits = rest > 0 ? filter[tile] : 0u;
  if (rest > 0 && rest < kBinaryTileRows) bits &= (1u << rest) - 1u;
  const int own = __popc(bits);
  int end = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, end, step);
    if (lane >= step) end += other;
  }
  const int num_rows = __shfl_sync(0xffffffffu, end, 31);
  __syncwarp();  // the last list has been read
  for (int at = end - own; bits != 0; bits &= bits - 1) {
    list[at++] = static_cast<uint16_t>(lane * 32 + __ffs(static_cast<int>(bits)) - 1);
  }
  __syncwarp();
  return num_rows;
}

}  // namespace intarsia::kernels
