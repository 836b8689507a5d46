// Bf16: conversion of arrays between f32 and bfloat16, whose bits travel as uint16_t.
//
// A bf16 is the upper half of an f32. Rounding is to nearest, ties to even; what is above the
// largest bf16 becomes an infinity. A NaN stays a NaN of the same sign (its payload may change),
// and subnormal numbers are rounded like all others.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <bit>
#include <cstdint>

namespace intarsia::kernels {

// One number. Exact.
inline float Bf16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// One number, rounded to nearest even.
inline uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Converts `num_elements` >= 0 numbers; any alignment. `target` may not overlap `source`.
void F32ToBf16(const float* source, int64_t num_elements, uint16_t* target);
void Bf16ToF32(const uint16_t* source, int64_t num_elements, float* target);

}  // namespace intarsia::kernels
