// HalfToFloat, Bf16ToFloat: the two 16-bit floats of model files, widened to f32 exactly, and
// FloatToHalf, which rounds a parameter of a quantiser to the side where it loses nothing.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <bit>
#include <cstdint>

namespace intarsia::kernels {

// IEEE binary16, subnormals, infinities and NaN included; a NaN keeps its sign and payload.
constexpr float HalfToFloat(uint16_t half) {
  // The exponent has 5 bits with bias 15 there and 8 bits with bias 127 here. Subnormals are scaled
  // as integers, so that the result does not depend on the CPU's treatment of f32 subnormals.
  const uint32_t sign = (uint32_t{half} & 0x8000U) << 16;
  const uint32_t mantissa = uint32_t{half} & 0x03FFU;
  const uint32_t exponent = uint32_t{half} & 0x7C00U;
  uint32_t bits = ((exponent | mantissa) << 13) + (112U << 23);
  if (exponent == 0x7C00U) bits = 0x7F800000U | (mantissa << 13);
  if (exponent == 0) bits = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24F);
  return std::bit_cast<float>(bits | sign);
}

enum class HalfRounding : uint8_t { kDown, kUp };

// The next IEEE binary16 at or below (kDown) or at or above (kUp) `value`.
// REQUIRES: |value| <= 65504, not NaN.
constexpr uint16_t FloatToHalf(float value, HalfRounding rounding) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  const bool is_negative = magnitude != bits;
  const bool is_away = is_negative == (rounding == HalfRounding::kDown);
  uint32_t half = 0;
  if (magnitude < (113U << 23)) {  // a subnormal half: a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24F;
    half = static_cast<uint32_t>(scaled);
    if (is_away && static_cast<float>(half) < scaled) ++half;
  } else {
    half = (magnitude >> 13) - (112U << 10);
    if (is_away && (magnitude & 0x1FFFU) != 0) ++half;
  }
  return static_cast<uint16_t>(half | (is_negative ? 0x8000U : 0U));
}

// The upper half of an f32.
constexpr float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

}  // namespace intarsia::kernels
