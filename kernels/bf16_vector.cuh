// Bf16Vector: eight bf16 in one 16-byte access, and sums over a block, for kernels on rows.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

namespace intarsia::kernels {

inline constexpr int kVectorElements = 8;
inline constexpr int kWarpLanes = 32;

struct Floats8 {
  float at[kVectorElements];
};

__device__ inline Floats8 UnpackBf16Vector(const uint4& bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
  Floats8 floats;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    floats.at[2 * i] = __uint_as_float(words[i] << 16);
    floats.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
  return floats;
}

__device__ inline Floats8 LoadBf16Vector(const uint16_t* source) {
  return UnpackBf16Vector(*reinterpret_cast<const uint4*>(source));
}

__device__ inline uint4 PackBf16Vector(const Floats8& floats) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(floats.at[2 * i], floats.at[2 * i + 1]);
    words[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ inline void StoreBf16Vector(const Floats8& floats, uint16_t* target) {
  *reinterpret_cast<uint4*>(target) = PackBf16Vector(floats);
}

__device__ inline Floats8 LoadFloats8(const float* source) {
  const float4 low = reinterpret_cast<const float4*>(source)[0];
  const float4 high = reinterpret_cast<const float4*>(source)[1];
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ inline void StoreFloats8(const Floats8& floats, float* target) {
  const float* const x = floats.at;
  reinterpret_cast<float4*>(target)[0] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(target)[1] = make_float4(x[4], x[5], x[6], x[7]);
}

__device__ inline float SumOfSquares(const Floats8& floats) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) sum += floats.at[i] * floats.at[i];
  return sum;
}

__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffU, x, offset);
  }
  return x;
}

// The sum of `x` over the block, for every thread, in a fixed order. `scratch` is shared memory of
// a float per warp, free for the next use after the block's next barrier.
template <int kThreads>
__device__ float BlockSum(float x, float* scratch) {
  constexpr int kWarps = kThreads / kWarpLanes;
  static_assert(kThreads % kWarpLanes == 0 && kWarps <= kWarpLanes, "one warp adds up the warps");
  const float warp_sum = WarpSum(x);
  if (threadIdx.x % kWarpLanes == 0) scratch[threadIdx.x / kWarpLanes] = warp_sum;
  __syncthreads();
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += scratch[i];
  return sum;
}

}  // namespace intarsia::kernels
