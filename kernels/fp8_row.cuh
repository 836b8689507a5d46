// Fp8Row: what kernels share that leave a row as e4m3: the largest number of a row that lies in the
// registers of a block, and its elements as codes. The definition is QuantizeRowsReference, which
// this is equal to bit for bit. Internal to kernels/.
#pragma once

#include <cstdint>

#include <cuda_fp8.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/e4m3.h"

namespace intarsia::kernels {

// The larger of `bound` and the largest magnitude among eight, as bits, which are ordered as the
// numbers are, infinity and NaN above all others.
__device__ inline uint32_t LargerMagnitudeBits(const Floats8& floats, uint32_t bound) {
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) {
    const uint32_t bits = __float_as_uint(floats.at[i]) & 0x7fffffffU;
    bound = bits > bound ? bits : bound;
  }
  return bound;
}

// The largest `x` over the block, for every thread. `scratch` is shared memory of a word per warp,
// free for the next use after the block's next barrier.
template <int kThreads>
__device__ uint32_t BlockMax(uint32_t x, uint32_t* scratch) {
  constexpr int kWarps = kThreads / kWarpLanes;
  static_assert(kThreads % kWarpLanes == 0 && kWarps <= kWarpLanes, "one warp compares the warps");
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffU, x, offset);
    x = other > x ? other : x;
  }
  if (threadIdx.x % kWarpLanes == 0) scratch[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) x = scratch[i] > x ? scratch[i] : x;
  return x;
}

struct Fp8Step {
  float scale;
  float inverse;
};

__device__ inline Fp8Step Fp8StepFor(uint32_t absmax_bits) {
  constexpr uint32_t kInfinityBits = 0x7f800000U;
  if (absmax_bits >= kInfinityBits) {
    const float nan = __uint_as_float(0x7fc00000U);
    return {nan, nan};
  }
  const float absmax = fmaxf(__uint_as_float(absmax_bits), kE4m3AbsMaxMin);
  return {__fdiv_rn(absmax, kE4m3Max), __fdiv_rn(kE4m3Max, absmax)};
}

// `target` is 8-byte aligned.
__device__ inline void StoreE4m3Vector(const Floats8& floats, float inverse, uint8_t* target) {
  uint32_t words[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float* const x = floats.at + 4 * i;
    const uint32_t low = __nv_cvt_float2_to_fp8x2(
        make_float2(__fmul_rn(x[0], inverse), __fmul_rn(x[1], inverse)), __NV_SATFINITE, __NV_E4M3);
    const uint32_t high = __nv_cvt_float2_to_fp8x2(
        make_float2(__fmul_rn(x[2], inverse), __fmul_rn(x[3], inverse)), __NV_SATFINITE, __NV_E4M3);
    words[i] = low | high << 16;
  }
  *reinterpret_cast<uint2*>(target) = make_uint2(words[0], words[1]);
}

// Writes the row `row` of which a thread has the vectors threadIdx.x, threadIdx.x + kThreads, ...
// as packed bf16. `scratch` is as BlockMax has it.
template <int kThreads, int kVectors>
__device__ void StoreFp8Row(const uint4 (&vectors)[kVectors], int64_t row, int64_t dim,
                            const Fp8Target& y, uint32_t* scratch) {
  const auto column_of = [](int i) {
    return (int64_t{i} * kThreads + threadIdx.x) * kVectorElements;
  };
  uint32_t absmax_bits = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of(i) >= dim) continue;
    absmax_bits = LargerMagnitudeBits(UnpackBf16Vector(vectors[i]), absmax_bits);
  }
  const Fp8Step step = Fp8StepFor(BlockMax<kThreads>(absmax_bits, scratch));
  if (threadIdx.x == 0) y.scales[row] = step.scale;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (column_of(i) >= dim) continue;
    StoreE4m3Vector(UnpackBf16Vector(vectors[i]), step.inverse, y.codes + row * dim + column_of(i));
  }
}

}  // namespace intarsia::kernels
