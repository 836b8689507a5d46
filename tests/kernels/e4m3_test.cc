#include "kernels/e4m3.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "kernels/quantize_rows.h"

namespace intarsia::kernels {
namespace {

TEST(E4m3Test, EveryCodeIsTheCodeOfItsNumber) {
  for (int code = 0; code < 256; ++code) {
    const auto bits = static_cast<uint8_t>(code);
    const float number = E4m3ToF32(bits);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(number)) << code;
      EXPECT_EQ(F32ToE4m3(number), 0x7f) << code;
      continue;
    }
    EXPECT_EQ(F32ToE4m3(number), bits) << code;
    EXPECT_EQ(std::signbit(number), code >= 0x80) << code;
  }
  EXPECT_EQ(E4m3ToF32(0x7e), 448.0F);
  EXPECT_EQ(E4m3ToF32(0x08), 0x1p-6F);
  EXPECT_EQ(E4m3ToF32(0x01), 0x1p-9F);
  EXPECT_EQ(E4m3ToF32(0x38), 1.0F);
}

TEST(E4m3Test, NumbersBetweenTwoCodesGoToTheNearestAndTiesToTheEvenOne) {
  for (int code = 0; code < 0x7e; ++code) {
    const auto low = static_cast<uint8_t>(code);
    const auto high = static_cast<uint8_t>(code + 1);
    const float middle = (E4m3ToF32(low) + E4m3ToF32(high)) / 2.0F;
    const float above = std::nextafter(middle, 1e9F);
    const float below = std::nextafter(middle, -1e9F);
    EXPECT_EQ(F32ToE4m3(middle), code % 2 == 0 ? low : high) << code;
    EXPECT_EQ(F32ToE4m3(above), high) << code;
    EXPECT_EQ(F32ToE4m3(below), low) << code;
    EXPECT_EQ(F32ToE4m3(-above), high | 0x80) << code;
    EXPECT_EQ(F32ToE4m3(-below), low | 0x80) << code;
  }
}

TEST(E4m3Test, WhatIsTooLargeBecomesTheLargest) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float x : {448.0F, 449.0F, 464.0F, 480.0F, 1e30F, kInfinity}) {
    EXPECT_EQ(F32ToE4m3(x), 0x7e) << x;
    EXPECT_EQ(F32ToE4m3(-x), 0xfe) << x;
  }
}

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

// Of one row.
Quantized Quantize(const std::vector<float>& row) {
  const auto dim = static_cast<int64_t>(row.size());
  std::vector<uint16_t> x(row.size());
  F32ToBf16(row.data(), dim, x.data());
  Quantized quantized{std::vector<uint8_t>(row.size()), std::vector<float>(1)};
  QuantizeRow(x.data(), 0, dim, {quantized.codes.data(), quantized.scales.data()});
  return quantized;
}

TEST(QuantizeRowTest, TheLargestNumberOfARowIsTheLargestCode) {
  const Quantized row = Quantize({1.0F, -3.5F, 0.0F, 0.25F, 1e-3F, 1e-5F, 2.0F, -0.5F});
  EXPECT_EQ(row.codes[1], 0xfe);
  EXPECT_EQ(row.codes[2], 0x00);
  EXPECT_EQ(row.scales[0], 3.5F / 448.0F);
  EXPECT_EQ(row.codes[0], 0x70);  // 128
  EXPECT_EQ(row.codes[5], 0x01);  // 1.28e-3 is nearer to 2^-9 than to 0
}

TEST(QuantizeRowTest, RowsOfZerosAndOfTinyNumbersAreNumbers) {
  for (const float x : {0.0F, 1e-38F, 1e-22F}) {
    const Quantized row = Quantize(std::vector<float>(8, x));
    EXPECT_EQ(row.codes, std::vector<uint8_t>(8, 0)) << x;
    EXPECT_GT(row.scales[0] * row.scales[0], std::numeric_limits<float>::min()) << x;
  }
}

TEST(QuantizeRowTest, NanAndInfinityMakeTheWholeRowNan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float x : {std::nanf(""), kInfinity, -kInfinity}) {
    std::vector<float> values(8, 1.0F);
    values[5] = x;
    const Quantized row = Quantize(values);
    EXPECT_EQ(row.codes, std::vector<uint8_t>(8, 0x7f)) << x;
    EXPECT_TRUE(std::isnan(row.scales[0])) << x;
  }
}

}  // namespace
}  // namespace intarsia::kernels
