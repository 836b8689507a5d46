// What the CUDA kernels of attention do to a score, and to the rows that four lanes share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_cuda_plan.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {

inline constexpr float kLn2 = 0.6931471805599453f;

// A score in base 2 from q . k, limited by the softcap: tanh(x) = 1 - 2 / (e^2x + 1), with e^2x
// overflowing to the right limit.
__device__ __forceinline__ float SoftcapScore(const AttentionArguments& args, float product) {
  const float e = Exp2Fast(product * args.score_factor);
  return args.cap_log2 - 2.0f * args.cap_log2 * ReciprocalFast(e + 1.0f);
}

// A maximum in base 2. Rounded here, so that every difference of two of them means the same.
__device__ __forceinline__ float ScaledMax(float max, float factor) {
  return __fmul_rn(max, factor);
}

// What the scores of a row are measured from: their maximum, or 0 where nothing was visible yet.
__device__ __forceinline__ float StabiliserOf(float max) { return max == -INFINITY ? 0.0f : max; }

// The maximum over the four lanes that share a row.
__device__ __forceinline__ float MaxOfRow(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float SumOfRow(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

}  // namespace intarsia::kernels
