// E4m3: the 8-bit numbers of products in fp8, and how rows of numbers become them.
//
// A code has a sign, four bits of exponent and three of mantissa: numbers up to 448 in steps of a
// sixteenth to an eighth of their size, multiples of 2^-9 below 2^-6, no infinity, and NaN as 0x7f
// (0xff is read as NaN, never written). A row is scaled so that its largest number becomes 448:
// codes = number * 448 / absmax, and absmax / 448 is the row's scale.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace intarsia::kernels {

inline constexpr float kE4m3Max = 448.0F;
// A row whose largest number is smaller is scaled as if it had this one: no scale is 0, and the
// product of two scales is still a normal number.
inline constexpr float kE4m3AbsMaxMin = 1e-15F;

// Rows of e4m3 with a scale each, as products read them.
struct Fp8Rows {
  const uint8_t* codes = nullptr;  // [num_rows, dim]
  const float* scales = nullptr;   // [num_rows]
};

// The same as kernels write them. Both pointers are null or 16-byte aligned.
struct Fp8Target {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
};

// To nearest even; beyond 448, infinities among it, to +-448.
inline uint8_t F32ToE4m3(float x) {
  if (std::isnan(x)) return 0x7f;
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80);
  const float magnitude = std::fabs(x);
  if (magnitude >= kE4m3Max) return sign | 0x7e;
  if (magnitude < 0x1p-6F) {
    return sign | static_cast<uint8_t>(std::nearbyint(magnitude * 0x1p9F));
  }
  // Exponent and mantissa are one number, in which rounding carries from the one into the other.
  const uint32_t rounded = (bits & 0x7fffffff) + 0x7ffff + (bits >> 20 & 1);
  constexpr uint32_t kBias = (127 - 7) << 3;
  return sign | static_cast<uint8_t>((rounded >> 20) - kBias);
}

inline float E4m3ToF32(uint8_t code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  if ((code & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace intarsia::kernels
