// The number at an index of RandomWeights, the same to the bit on host and device. Internal to
// kernels/.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/paged_kv.h"

namespace intarsia::kernels {

// Four 16-bit uniform numbers of one SplitMix64 hash, added: their sum has deviation 65536 / sqrt
// 3, to within 2^-32 parts.
INTARSIA_HOST_DEVICE inline float RandomWeightAt(uint64_t seed, int64_t index, float deviation) {
  uint64_t x = seed + 0x9e3779b97f4a7c15ULL * (static_cast<uint64_t>(index) + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  x ^= x >> 31;
  const auto sum =
      static_cast<int32_t>((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
  constexpr float kMean = 2.0F * 65'535.0F;
  constexpr float kInverseDeviation = 2.6428997e-5F;  // sqrt(3) / 65536
  return (static_cast<float>(sum) - kMean) * (kInverseDeviation * deviation);
}

}  // namespace intarsia::kernels
