// The arithmetic that both forms of SampleRows share to the bit: how logits are ordered, what a
// probability counts, and what a draw is. Internal to kernels/.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/paged_kv.h"

namespace intarsia::kernels {

// Larger for larger logits; 0 for NaN and -infinity, which are never drawn.
INTARSIA_HOST_DEVICE inline uint32_t OrderOfLogit(float logit) {
  if (!(logit > -INFINITY)) return 0;
  uint32_t bits = 0;
  memcpy(&bits, &logit, sizeof(bits));
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// Orders tokens from the most likely to the least, the first of equals before the others.
INTARSIA_HOST_DEVICE inline uint64_t RankOfToken(float logit, int64_t token) {
  return uint64_t{OrderOfLogit(logit)} << 32 | (0xffffffffU - static_cast<uint32_t>(token));
}

// What a token counts: 2^40 * exp((logit - largest) / temperature), rounded down. Only operations
// that IEEE 754 defines to the bit, so that host and device agree.
INTARSIA_HOST_DEVICE inline uint64_t WeightOfLogit(float logit, float largest, float temperature) {
  const float log2_e_over_temperature = 1.44269504F / temperature;
  const float exponent = fmaf(logit - largest, log2_e_over_temperature, 0.0F);
  if (!(exponent > -63.0F)) return 0;
  const float whole = floorf(exponent);
  const float part = exponent - whole;
  // 2^part for part in [0, 1): the Taylor series of exp(part * ln 2), within 2^-23.
  float power = 1.5403530e-4F;
  power = fmaf(power, part, 1.3333558e-3F);
  power = fmaf(power, part, 9.6181291e-3F);
  power = fmaf(power, part, 5.5504109e-2F);
  power = fmaf(power, part, 2.4022651e-1F);
  power = fmaf(power, part, 6.9314718e-1F);
  power = fmaf(power, part, 1.0F);
  const auto mantissa = static_cast<uint64_t>(fmaf(power, 1099511627776.0F, 0.0F));
  return mantissa >> static_cast<int>(-whole);
}

// A number that is as likely as any other, from a seed and a step (SplitMix64 twice).
INTARSIA_HOST_DEVICE inline uint32_t DrawNumber(uint64_t seed, int32_t step) {
  uint64_t x = seed;
  for (int round = 0; round < 2; ++round) {
    x += 0x9e3779b97f4a7c15ULL * (uint64_t{static_cast<uint32_t>(step)} + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    x ^= x >> 31;
  }
  return static_cast<uint32_t>(x >> 32);
}

// whole * number / 2^32, rounded down, without overflow.
INTARSIA_HOST_DEVICE inline uint64_t ShareOf(uint64_t whole, uint32_t number) {
  return (whole >> 32) * number + ((whole & 0xffffffffU) * number >> 32);
}

// The sum of weights that the kept tokens must reach.
INTARSIA_HOST_DEVICE inline uint64_t WantedWeight(uint64_t whole, float top_p) {
  const double wanted = ceil(static_cast<double>(whole) * static_cast<double>(top_p));
  return wanted < 1.0 ? 1 : static_cast<uint64_t>(wanted);
}

}  // namespace intarsia::kernels
