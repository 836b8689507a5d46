#include "kernels/elementwise.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

TEST(ElementwiseTest, SumsAndProductsAreExact) {
  ForEachTarget([] {
    for (const int64_t size : {0, 1, 15, 16, 33, 577}) {
      const auto x = RandomFloats(size, 1);
      auto sum = RandomFloats(size, 2);
      auto want = sum;
      for (size_t i = 0; i < want.size(); ++i) want[i] += x[i];
      AddTo(x.data(), size, sum.data());
      EXPECT_EQ(sum, want);
      for (float& value : want) value *= 1.7f;
      Scale(1.7f, size, sum.data());
      EXPECT_EQ(sum, want);
    }
  });
}

TEST(ElementwiseTest, SoftcapBoundsWithoutTouchingSmallValues) {
  ForEachTarget([] {
    auto x = RandomFloats(1001, 3, 40.0f);
    x[0] = std::numeric_limits<float>::infinity();
    x[1] = -x[0];
    x[2] = std::numeric_limits<float>::quiet_NaN();
    x[3] = 0.0f;
    std::vector<float> want;
    want.reserve(x.size());
    for (const float value : x) {
      want.push_back(static_cast<float>(30.0 * std::tanh(double{value} / 30.0)));
    }
    Softcap(30.0f, static_cast<int64_t>(x.size()), x.data());
    EXPECT_TRUE(ArraysAgree(x, want, {.absolute = 1e-5, .relative = 1e-6, .nmse = 1e-12}));
  });
}

}  // namespace
}  // namespace intarsia::kernels
