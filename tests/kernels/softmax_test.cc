#include "kernels/softmax.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(SoftmaxTest, AgreesWithDoublePrecision) {
  ForEachTarget([] {
    for (const int64_t size : {1, 2, 15, 17, 1023, 1025, 49'153}) {
      for (const float temperature : {1.0f, 0.3f, 2.5f}) {
        auto x = RandomFloats(size, 1, 6.0f);
        if (size > 3) x[3] = -kInfinity;
        double largest = -1e30;
        for (const float value : x) largest = std::fmax(largest, value);
        double sum = 0.0;
        for (const float value : x) sum += std::exp((value - largest) / temperature);
        std::vector<float> want;
        want.reserve(x.size());
        for (const float value : x) {
          want.push_back(static_cast<float>(std::exp((value - largest) / temperature) / sum));
        }
        std::vector<float> probabilities(x.size());
        const float lse = Softmax(x.data(), size, temperature, probabilities.data());
        EXPECT_NEAR(lse, largest / temperature + std::log(sum), 1e-5 * (1.0 + std::fabs(lse)));
        EXPECT_EQ(lse, LogSumExp(x.data(), size, temperature));
        EXPECT_TRUE(
            ArraysAgree(probabilities, want, {.absolute = 1e-37, .relative = 2e-5, .nmse = 1e-10}));
        Softmax(x.data(), size, temperature, x.data());
        EXPECT_EQ(x, probabilities) << "in place";
      }
    }
  });
}

TEST(SoftmaxTest, RowsWithoutAFiniteMaximumAreDecided) {
  ForEachTarget([] {
    std::vector<float> x(20, -kInfinity);
    std::vector<float> probabilities(20, 5.0f);
    EXPECT_EQ(Softmax(x.data(), 20, 1.0f, probabilities.data()), -kInfinity);
    EXPECT_EQ(probabilities, std::vector<float>(20, 0.0f));
    EXPECT_EQ(LogSumExp(x.data(), 0, 1.0f), -kInfinity);
    for (const float bad : {kNan, kInfinity}) {
      for (const float others : {-kInfinity, 1.0f}) {
        x.assign(20, others);
        x[18] = bad;
        EXPECT_TRUE(std::isnan(Softmax(x.data(), 20, 1.0f, probabilities.data())));
        for (const float value : probabilities) EXPECT_TRUE(std::isnan(value));
      }
    }
  });
}

TEST(SoftmaxTest, ATinyTemperatureChoosesTheLargest) {
  const std::vector<float> x = {1.0f, 3.0f, 2.0f};
  std::vector<float> probabilities(3);
  Softmax(x.data(), 3, 1e-40f, probabilities.data());
  EXPECT_EQ(probabilities, (std::vector<float>{0.0f, 1.0f, 0.0f}));
}

TEST(SoftmaxTest, ArgMaxTakesTheFirstOfEqualsAndPassesOverNan) {
  ForEachTarget([] {
    for (const int64_t size : {1, 5, 16, 70, 1000}) {
      auto x = RandomFloats(size, 5);
      const int64_t at = size / 2;
      x[static_cast<size_t>(at)] = 10.0f;
      x.back() = 10.0f;
      EXPECT_EQ(ArgMax(x.data(), size), at);
      x[0] = kNan;
      if (at != 0) {
        EXPECT_EQ(ArgMax(x.data(), size), at);
      }
      x.assign(x.size(), kNan);
      EXPECT_EQ(ArgMax(x.data(), size), -1);
      x.back() = -kInfinity;
      EXPECT_EQ(ArgMax(x.data(), size), size - 1);
    }
    EXPECT_EQ(ArgMax(nullptr, 0), -1);
  });
}

}  // namespace
}  // namespace intarsia::kernels
