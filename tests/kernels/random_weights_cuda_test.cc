#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random_weights.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

using RandomWeightsCudaTest = DeviceTest;

TEST_F(RandomWeightsCudaTest, AreTheReferencesBits) {
  for (const int64_t size : {8, 2048, 2056, 5'000'008}) {
    std::vector<uint16_t> expected(static_cast<size_t>(size), kBf16Nan);
    const auto y = FilledOnDevice<uint16_t>(size, kBf16Nan);
    RandomWeightsParams params{.y = y.data(), .size = size, .deviation = 0.02F, .seed = 9};
    ASSERT_TRUE(RandomWeightsCuda(params, nullptr).ok());
    params.y = expected.data();
    ASSERT_TRUE(RandomWeightsReference(params).ok());
    EXPECT_EQ(y.CopyToHost(), expected);
    EXPECT_TRUE(y.GuardsAreIntact());
  }
}

TEST(RandomWeightsTest, HaveTheMeanAndTheDeviation) {
  std::vector<uint16_t> bits(1 << 18);
  ASSERT_TRUE(
      RandomWeightsReference({.y = bits.data(), .size = 1 << 18, .deviation = 2.0F, .seed = 1})
          .ok());
  double sum = 0.0;
  double square_sum = 0.0;
  for (const float x : ToFloats(bits)) {
    sum += x;
    square_sum += double{x} * x;
  }
  EXPECT_NEAR(sum / (1 << 18), 0.0, 0.02);
  EXPECT_NEAR(std::sqrt(square_sum / (1 << 18)), 2.0, 0.02);
  EXPECT_EQ(CheckRandomWeights({.y = bits.data(), .size = 4}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckRandomWeights({.y = nullptr, .size = 8}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(CheckRandomWeights({}).ok());
}

}  // namespace
}  // namespace intarsia::kernels
