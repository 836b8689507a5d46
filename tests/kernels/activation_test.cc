#include "kernels/activation.h"

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

constexpr Tolerance kTolerance = {.absolute = 1e-6, .relative = 1e-6, .nmse = 1e-12};
constexpr Activation kKinds[] = {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf};

TEST(ActivationTest, AgreesWithTheReferenceAlongTheWholeLine) {
  std::vector<float> x;
  for (float value = -120.0f; value <= 120.0f; value += 0.0113f) x.push_back(value);
  for (const float value : {0.0f, -0.0f, 1e-30f, -1e-30f, 1e6f, -1e6f, 1e30f, -1e30f, 3e38f}) {
    x.push_back(value);
  }
  x.push_back(std::numeric_limits<float>::infinity());
  x.push_back(-std::numeric_limits<float>::infinity());
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  ForEachTarget([&] {
    for (const Activation kind : kKinds) {
      std::vector<float> y(x.size());
      std::vector<float> want(x.size());
      ActivationParams params = {.kind = kind,
                                 .x = x.data(),
                                 .y = y.data(),
                                 .num_rows = 1,
                                 .dim = static_cast<int64_t>(x.size())};
      ASSERT_TRUE(Activate(params, nullptr).ok());
      params.y = want.data();
      ASSERT_TRUE(ActivateReference(params).ok());
      EXPECT_TRUE(ArraysAgree(y, want, kTolerance)) << static_cast<int>(kind);
    }
  });
}

TEST(ActivationTest, GateAndUpSideBySideAreMultiplied) {
  ThreadPool pool(2);
  ForEachTarget([&] {
    for (const int64_t dim : {1, 17, 1536}) {
      const int64_t num_rows = 37;
      const auto both = RandomFloats(num_rows * 2 * dim, 1, 2.0f);
      std::vector<float> y(static_cast<size_t>(num_rows * dim));
      std::vector<float> want(y.size());
      std::vector<uint16_t> y_bf16(y.size());
      for (const Activation kind : kKinds) {
        ActivationParams params = {.kind = kind,
                                   .x = both.data(),
                                   .up = both.data() + dim,
                                   .x_stride = 2 * dim,
                                   .y = y.data(),
                                   .y_bf16 = y_bf16.data(),
                                   .num_rows = num_rows,
                                   .dim = dim};
        ASSERT_TRUE(Activate(params, &pool).ok());
        params.y = want.data();
        params.y_bf16 = nullptr;
        ASSERT_TRUE(ActivateReference(params).ok());
        EXPECT_TRUE(ArraysAgree(y, want, {.absolute = 5e-6, .relative = 1e-6, .nmse = 1e-12}));
        for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y_bf16[i], F32ToBf16(y[i]));
      }
    }
  });
}

TEST(ActivationTest, BadParametersAreRefusedByBothForms) {
  float x[4] = {};
  const ActivationParams good = {.x = x, .y = x, .num_rows = 1, .dim = 4};
  std::vector<ActivationParams> bad(5, good);
  bad[0].x = nullptr;
  bad[1].y = nullptr;
  bad[2].dim = 0;
  bad[3].x_stride = 3;
  bad[4].num_rows = -1;
  for (const ActivationParams& params : bad) {
    EXPECT_EQ(Activate(params, nullptr).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ActivateReference(params).code(), StatusCode::kInvalidArgument);
  }
  ActivationParams unknown = good;
  unknown.kind = static_cast<Activation>(9);
  EXPECT_EQ(Activate(unknown, nullptr).code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace intarsia::kernels
