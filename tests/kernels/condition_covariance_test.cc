#include "kernels/condition_covariance.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

constexpr float kUntouched = 123.0f;

// The covariance of a process with a kernel that falls with the distance, and its sums.
struct Design {
  int64_t size = 0;
  int64_t stride = 0;
  std::vector<float> covariance;
  std::vector<float> weights;
  std::vector<float> square_sums;
  std::vector<float> workspace;

  Design(int64_t the_size, int64_t gap) : size(the_size), stride(the_size + gap) {
    std::mt19937 generator(7);
    std::uniform_real_distribution<float> uniform(0.0f, 2.0f);
    covariance.assign(static_cast<size_t>(size * stride), kUntouched);
    weights.resize(static_cast<size_t>(size));
    for (float& weight : weights) weight = uniform(generator);
    square_sums.resize(static_cast<size_t>(size));
    workspace.resize(static_cast<size_t>(2 * size));
    for (int64_t u = 0; u < size; ++u) {
      double sum = 0.0;
      for (int64_t t = 0; t < size; ++t) {
        const double value = 0.3 * std::exp(-std::abs(static_cast<double>(t - u)) / 9.0) + 0.25;
        covariance[static_cast<size_t>(u * stride + t)] = static_cast<float>(value);
        sum += weights[static_cast<size_t>(t)] * value * value;
      }
      square_sums[static_cast<size_t>(u)] = static_cast<float>(sum);
    }
  }
  ConditionCovarianceParams Params(int64_t pivot) {
    return {.covariance = covariance.data(),
            .size = size,
            .stride = stride,
            .pivot = pivot,
            .noise = 0.3f,
            .weights = weights.data(),
            .square_sums = square_sums.data(),
            .workspace = workspace.data()};
  }
};

TEST(ConditionCovarianceTest, ManyStepsStayNearTheReference) {
  ForEachTarget([] {
    for (const int64_t size : {1, 2, 15, 16, 17, 63, 130}) {
      Design actual(size, 3);
      Design expected(size, 3);
      for (int64_t step = 0; step < 2 * size; ++step) {
        const int64_t pivot = (step * 7) % size;
        ASSERT_TRUE(ConditionCovariance(actual.Params(pivot)).ok());
        ASSERT_TRUE(ConditionCovarianceReference(expected.Params(pivot)).ok());
      }
      for (int64_t u = 0; u < size; ++u) {
        for (int64_t t = 0; t < actual.stride; ++t) {
          const auto at = static_cast<size_t>(u * actual.stride + t);
          ASSERT_NEAR(actual.covariance[at], expected.covariance[at], 2e-6) << size;
        }
        const auto at = static_cast<size_t>(u);
        ASSERT_NEAR(actual.square_sums[at], expected.square_sums[at],
                    1e-5 * static_cast<double>(size));
      }
    }
  });
}

TEST(ConditionCovarianceTest, AMeasuredPointKeepsTheNoisesShareOfItsVariance) {
  Design design(40, 0);
  const float before = design.covariance[static_cast<size_t>(11 * 40 + 11)];
  ASSERT_TRUE(ConditionCovariance(design.Params(11)).ok());
  const float after = design.covariance[static_cast<size_t>(11 * 40 + 11)];
  EXPECT_NEAR(after, before * 0.3f / (before + 0.3f), 1e-6);
}

TEST(ConditionCovarianceTest, BadArgumentsChangeNothing) {
  Design design(5, 0);
  const std::vector<float> before = design.covariance;
  for (int i = 0; i < 8; ++i) {
    ConditionCovarianceParams params = design.Params(2);
    if (i == 0) params.covariance = nullptr;
    if (i == 1) params.size = 0;
    if (i == 2) params.stride = 4;
    if (i == 3) params.pivot = 5;
    if (i == 4) params.noise = 0.0f;
    if (i == 5) params.noise = std::numeric_limits<float>::quiet_NaN();
    if (i == 6) params.square_sums = nullptr;
    if (i == 7) params.pivot = -1;
    EXPECT_EQ(ConditionCovariance(params).code(), StatusCode::kInvalidArgument) << i;
    EXPECT_EQ(ConditionCovarianceReference(params).code(), StatusCode::kInvalidArgument) << i;
  }
  EXPECT_EQ(design.covariance, before);
}

}  // namespace
}  // namespace intarsia::kernels
