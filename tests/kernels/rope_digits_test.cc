#include "kernels/rope_digits.h"

#include <gtest/gtest.h>

namespace intarsia::kernels {
namespace {

RopeOptions LlamaOptions() {
  return {.rotary_dim = 128,
          .base = 500'000.0,
          .scaling = RopeScaling::kLlama3,
          .factor = 8.0,
          .original_context = 8'192};
}

TEST(RopeDigitsTest, ProductsOfDigitsAreTheTablesRotations) {
  const auto table = RopeTable::Create(LlamaOptions());
  ASSERT_TRUE(table.ok());
  constexpr int32_t kNumPositions = 70'000;
  const auto digits = FillRopeDigits(**table, kNumPositions);
  ASSERT_TRUE(digits.ok());
  const int64_t width = (*table)->rotary_dim();
  ASSERT_EQ(static_cast<int64_t>(digits->size()),
            (kRopeDigitValues + NumHighRopeDigits(kNumPositions)) * width);
  for (const int32_t position : {0, 1, 255, 256, 257, 4'095, 65'536, kNumPositions - 1}) {
    std::vector<float> cosines(static_cast<size_t>(width / 2));
    std::vector<float> sines(cosines.size());
    ASSERT_TRUE((*table)->Fill(&position, 1, cosines.data(), sines.data()).ok());
    const float* const low = digits->data() + position % kRopeDigitValues * width;
    const float* const high =
        digits->data() + (kRopeDigitValues + position / kRopeDigitValues) * width;
    for (size_t i = 0; i < cosines.size(); ++i) {
      const double c = double{low[2 * i]} * high[2 * i] - double{low[2 * i + 1]} * high[2 * i + 1];
      const double s = double{low[2 * i + 1]} * high[2 * i] + double{low[2 * i]} * high[2 * i + 1];
      EXPECT_NEAR(c, cosines[i], 3e-7) << "position " << position << " pair " << i;
      EXPECT_NEAR(s, sines[i], 3e-7) << "position " << position << " pair " << i;
    }
  }
}

TEST(RopeDigitsTest, ACountOutOfRangeIsRefused) {
  const auto table = RopeTable::Create(LlamaOptions());
  ASSERT_TRUE(table.ok());
  for (const int64_t count : {int64_t{0}, int64_t{-1}, int64_t{RopeTable::kPositionsMax} + 1}) {
    EXPECT_EQ(FillRopeDigits(**table, count).status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
