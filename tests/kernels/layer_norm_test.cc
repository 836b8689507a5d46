#include "kernels/layer_norm.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr Tolerance kTolerance = {.absolute = 2e-6, .relative = 2e-6, .nmse = 1e-12};

TEST(LayerNormTest, AgreesWithTheReferenceOnEveryTarget) {
  ThreadPool pool(2);
  ForEachTarget([&] {
    for (const int64_t dim : {1, 5, 16, 384, 385, 1023}) {
      for (const int64_t num_rows : {1, 7, 130}) {
        auto x = RandomFloats(num_rows * dim, 1);
        for (float& value : x) value += 5.0f;  // a mean that must not cost the variance its digits
        const auto addend = RandomFloats(num_rows * dim, 2);
        const auto gain = RandomFloats(dim, 3);
        const auto bias = RandomFloats(dim, 4);
        std::vector<float> y(x.size());
        std::vector<float> want(x.size());
        std::vector<uint16_t> y_bf16(x.size());
        LayerNormParams params = {.x = x.data(),
                                  .addend = addend.data(),
                                  .gain = gain.data(),
                                  .bias = bias.data(),
                                  .y = y.data(),
                                  .y_bf16 = y_bf16.data(),
                                  .num_rows = num_rows,
                                  .dim = dim,
                                  .epsilon = 1e-3f};
        ASSERT_TRUE(LayerNorm(params, &pool).ok());
        params.y = want.data();
        params.y_bf16 = nullptr;
        ASSERT_TRUE(LayerNormReference(params).ok());
        EXPECT_TRUE(ArraysAgree(y, want, {.absolute = 5e-5, .relative = 1e-5, .nmse = 1e-10}));
        for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y_bf16[i], F32ToBf16(y[i]));
      }
    }
  });
}

TEST(LayerNormTest, ANanSpoilsItsOwnRowOnlyAndInPlaceIsAllowed) {
  ForEachTarget([] {
    auto x = RandomFloats(int64_t{3} * 33, 1);
    x[40] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> gain(33, 2.0f);
    const std::vector<float> bias(33, -1.0f);
    std::vector<float> want(x.size());
    LayerNormParams params = {.x = x.data(),
                              .gain = gain.data(),
                              .bias = bias.data(),
                              .y = want.data(),
                              .num_rows = 3,
                              .dim = 33,
                              .epsilon = 1e-12f};
    ASSERT_TRUE(LayerNormReference(params).ok());
    params.y = x.data();
    ASSERT_TRUE(LayerNorm(params, nullptr).ok());
    EXPECT_TRUE(ArraysAgree(x, want, kTolerance));
  });
}

TEST(LayerNormTest, BadParametersAreRefusedByBothForms) {
  float x[4] = {};
  const LayerNormParams good = {.x = x, .gain = x, .bias = x, .y = x, .num_rows = 1, .dim = 4};
  std::vector<LayerNormParams> bad(7, good);
  bad[0].x = nullptr;
  bad[1].y = nullptr;
  bad[2].gain = nullptr;
  bad[3].bias = nullptr;
  bad[4].dim = 0;
  bad[5].epsilon = std::numeric_limits<float>::quiet_NaN();
  bad[6].num_rows = -1;
  for (const LayerNormParams& params : bad) {
    EXPECT_EQ(LayerNorm(params, nullptr).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(LayerNormReference(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
