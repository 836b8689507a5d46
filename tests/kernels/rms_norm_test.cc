#include "kernels/rms_norm.h"

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

constexpr Tolerance kTolerance = {.absolute = 1e-6, .relative = 2e-6, .nmse = 1e-12};

struct Shape {
  int64_t num_rows;
  int64_t num_groups;
  int64_t dim;
  int64_t gap;  // elements between rows
};
constexpr Shape kShapes[] = {{1, 1, 1, 0},    {2, 1, 7, 3},   {5, 1, 576, 0},  {3, 9, 64, 40},
                             {33, 1, 897, 1}, {4, 2, 128, 0}, {200, 1, 640, 0}};

TEST(RmsNormTest, AgreesWithTheReferenceOnEveryTarget) {
  ThreadPool pool(2);
  ForEachTarget([&] {
    for (const Shape& shape : kShapes) {
      const int64_t stride = shape.num_groups * shape.dim + shape.gap;
      const auto x = RandomFloats(shape.num_rows * stride, 1, 3.0f);
      const auto weight = RandomFloats(shape.dim, 2);
      std::vector<float> y(x.size(), 9.0f);
      std::vector<float> want(x.size(), 9.0f);
      RmsNormParams params = {.x = x.data(),
                              .x_stride = stride,
                              .weight = weight.data(),
                              .y = y.data(),
                              .y_stride = stride,
                              .num_rows = shape.num_rows,
                              .num_groups = shape.num_groups,
                              .dim = shape.dim,
                              .epsilon = 1e-5f};
      ASSERT_TRUE(RmsNorm(params, &pool).ok());
      params.y = want.data();
      ASSERT_TRUE(RmsNormReference(params).ok());
      EXPECT_TRUE(ArraysAgree(y, want, kTolerance));
    }
  });
}

TEST(RmsNormTest, TheAddendIsKeptInTheSumAndTheOutputIsRounded) {
  ForEachTarget([] {
    const int64_t dim = 579;
    const auto x = RandomFloats(3 * dim, 1);
    const auto addend = RandomFloats(3 * dim, 2);
    auto stream = x;
    auto want_stream = x;
    std::vector<float> y(x.size());
    std::vector<float> want(x.size());
    std::vector<uint16_t> y_bf16(x.size());
    RmsNormParams params = {.x = stream.data(),
                            .addend = addend.data(),
                            .sum = stream.data(),
                            .y = y.data(),
                            .y_bf16 = y_bf16.data(),
                            .num_rows = 3,
                            .dim = dim,
                            .epsilon = 1e-6f};
    ASSERT_TRUE(RmsNorm(params, nullptr).ok());
    params.x = params.sum = want_stream.data();
    params.y = want.data();
    params.y_bf16 = nullptr;
    ASSERT_TRUE(RmsNormReference(params).ok());
    EXPECT_EQ(stream, want_stream);
    EXPECT_TRUE(ArraysAgree(y, want, kTolerance));
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y_bf16[i], F32ToBf16(y[i]));
  });
}

TEST(RmsNormTest, ANanSpoilsItsOwnGroupOnly) {
  ForEachTarget([] {
    auto x = RandomFloats(int64_t{2} * 3 * 16, 1);
    x[16] = std::numeric_limits<float>::quiet_NaN();
    x[64] = std::numeric_limits<float>::infinity();
    std::vector<float> y(x.size());
    std::vector<float> want(x.size());
    RmsNormParams params = {
        .x = x.data(), .y = y.data(), .num_rows = 2, .num_groups = 3, .dim = 16, .epsilon = 1e-6f};
    ASSERT_TRUE(RmsNorm(params, nullptr).ok());
    params.y = want.data();
    ASSERT_TRUE(RmsNormReference(params).ok());
    EXPECT_TRUE(ArraysAgree(y, want, kTolerance));
  });
}

TEST(RmsNormTest, InPlaceGivesTheSameBits) {
  auto x = RandomFloats(int64_t{5} * 100, 1);
  std::vector<float> y(x.size());
  RmsNormParams params = {.x = x.data(), .y = y.data(), .num_rows = 5, .dim = 100};
  ASSERT_TRUE(RmsNorm(params, nullptr).ok());
  params.y = x.data();
  ASSERT_TRUE(RmsNorm(params, nullptr).ok());
  EXPECT_EQ(x, y);
}

TEST(RmsNormTest, BadParametersAreRefusedByBothForms) {
  float x[4] = {};
  const RmsNormParams good = {.x = x, .y = x, .num_rows = 1, .dim = 4};
  std::vector<RmsNormParams> bad(8, good);
  bad[0].x = nullptr;
  bad[1].y = nullptr;
  bad[2].addend = x;
  bad[3].sum = x;
  bad[4].dim = 0;
  bad[5].x_stride = 3;
  bad[6].epsilon = -1.0f;
  bad[7].num_rows = -1;
  for (const RmsNormParams& params : bad) {
    EXPECT_EQ(RmsNorm(params, nullptr).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(RmsNormReference(params).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(RmsNorm({}, nullptr).ok()) << "no rows, nothing to do";
}

}  // namespace
}  // namespace intarsia::kernels
