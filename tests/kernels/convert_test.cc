#include "kernels/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

uint32_t BitsOf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

TEST(ConvertTest, TiesGoToTheEvenNeighbour) {
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
}

TEST(ConvertTest, TheEndsOfTheRangeKeepTheirMeaning) {
  EXPECT_EQ(F32ToBf16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_EQ(F32ToBf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(F32ToBf16(-0.0f), 0x8000);
  // A NaN whose payload lies in the lower half alone must not become an infinity.
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(ConvertTest, EveryBf16SurvivesTheWayToF32AndBack) {
  std::vector<uint16_t> bits(65'536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  ForEachTarget([&] {
    std::vector<float> wide(bits.size());
    std::vector<uint16_t> back(bits.size());
    Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), wide.data());
    F32ToBf16(wide.data(), static_cast<int64_t>(wide.size()), back.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      if (std::isnan(wide[i])) {
        EXPECT_TRUE(std::isnan(Bf16ToF32(back[i])));
      } else {
        ASSERT_EQ(back[i], bits[i]);
      }
    }
  });
}

TEST(ConvertTest, ArraysOfEveryLengthAgreeWithTheScalarForm) {
  ForEachTarget([] {
    for (const int64_t size : {0, 1, 3, 15, 16, 17, 63, 1000}) {
      auto values = RandomFloats(size + 1, 7);
      if (size > 2) values[2] = std::numeric_limits<float>::quiet_NaN();
      std::vector<uint16_t> rounded(static_cast<size_t>(size + 1), 0xabcd);
      F32ToBf16(values.data() + 1, size, rounded.data());
      for (int64_t i = 0; i < size; ++i) {
        EXPECT_EQ(rounded[static_cast<size_t>(i)], F32ToBf16(values[static_cast<size_t>(i + 1)]));
      }
      EXPECT_EQ(rounded.back(), 0xabcd) << "wrote beyond the end";
      std::vector<float> wide(static_cast<size_t>(size + 1), 42.0f);
      Bf16ToF32(rounded.data(), size, wide.data());
      for (int64_t i = 0; i < size; ++i) {
        EXPECT_EQ(BitsOf(wide[static_cast<size_t>(i)]),
                  BitsOf(Bf16ToF32(rounded[static_cast<size_t>(i)])));
      }
      EXPECT_EQ(wide.back(), 42.0f);
    }
  });
}

}  // namespace
}  // namespace intarsia::kernels
