// Products of bits on a device: reads of codes that are used once, sums of popcounts with fewer
// popcounts, and the tensor cores' product of bits.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {

// The sum of three bits in each place: its low bit, and the high one in `carry`.
__device__ __forceinline__ uint32_t AddBits(uint32_t a, uint32_t b, uint32_t c, uint32_t* carry) {
  *carry = (a & b) | (c & (a | b));
  return a ^ b ^ c;
}

// Sum over p of 2^p * popcount(code ^ query_p) of 128 bits, four words a plane, by 9 popcounts
// instead of 16: a popcount costs as much as four operations on bits. Words of one weight are added
// by threes, and what they carry counts among those of the next.
__device__ __forceinline__ int WeightedDistance(const uint4& code, const uint32_t (&query)[4][4]) {
  uint32_t carry0;
  uint32_t carry1[2];
  uint32_t carry2[2];
  uint32_t carry3[2];
  const uint32_t ones =
      AddBits(code.x ^ query[0][0], code.y ^ query[0][1], code.z ^ query[0][2], &carry0);
  const uint32_t twos_part =
      AddBits(code.x ^ query[1][0], code.y ^ query[1][1], code.z ^ query[1][2], &carry1[0]);
  const uint32_t twos = AddBits(twos_part, code.w ^ query[1][3], carry0, &carry1[1]);
  const uint32_t fours0 =
      AddBits(code.x ^ query[2][0], code.y ^ query[2][1], code.z ^ query[2][2], &carry2[0]);
  const uint32_t fours1 = AddBits(code.w ^ query[2][3], carry1[0], carry1[1], &carry2[1]);
  const uint32_t eights0 =
      AddBits(code.x ^ query[3][0], code.y ^ query[3][1], code.z ^ query[3][2], &carry3[0]);
  const uint32_t eights1 = AddBits(code.w ^ query[3][3], carry2[0], carry2[1], &carry3[1]);
  const int sum01 = __popc(ones) + __popc(code.w ^ query[0][3]) + 2 * __popc(twos);
  const int sum2 = __popc(fours0) + __popc(fours1);
  const int sum3 = __popc(eights0) + __popc(eights1);
  const int sum4 = __popc(carry3[0]) + __popc(carry3[1]);
  return sum01 + 4 * sum2 + 8 * sum3 + 16 * sum4;
}

}  // namespace intarsia::kernels
