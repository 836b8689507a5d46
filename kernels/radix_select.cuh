// Radix search of scores by one block: keys that sort as the scores do, and the search of one byte
// of the key of the wanted rank.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace intarsia::kernels {

inline constexpr int kRadixBins = 256;

// Grows with the score; 0 for NaN, which no number has.
__device__ __forceinline__ uint32_t KeyOf(float score) {
  if (isnan(score)) return 0;
  const uint32_t bits = __float_as_uint(score == 0.0f ? 0.0f : score);  // -0 equals 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The score that has this key; -inf for 0.
__device__ __forceinline__ float ScoreOf(uint32_t key) {
  if (key == 0) return __uint_as_float(0xff800000u);
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// The bin in which the `wanted`-th key from the top lies; takes what is above it off `wanted`. One
// warp calls it, with threadIdx.x in [0, 32).
__device__ inline void FindBin(const int* bins, int* bin, int* wanted) {
  const int lane = static_cast<int>(threadIdx.x);
  constexpr int kEach = kRadixBins / 32;
  int own = 0;
  for (int i = 0; i < kEach; ++i) own += bins[lane * kEach + i];
  int above = own;  // of this lane's bins and the higher ones
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_down_sync(0xffffffffu, above, step);
    if (lane + step < 32) above += other;
  }
  const int target = *wanted;
  __syncwarp();
  if (lane == 0 && above < target) *bin = 0;  // fewer keys than wanted: all are taken
  if (above >= target && above - own < target) {
    int left = target - (above - own);
    int at = lane * kEach + kEach - 1;
    while (bins[at] < left) left -= bins[at--];
    *bin = at;
    *wanted = left;
  }
}

}  // namespace intarsia::kernels
