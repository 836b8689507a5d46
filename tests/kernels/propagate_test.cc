#include "kernels/propagate.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr Tolerance kTolerance = {.absolute = 1e-4, .relative = 1e-5, .nmse = 1e-11};

struct Shape {
  int64_t num_tokens;
  int64_t num_deltas;
  int64_t width;
};
constexpr Shape kShapes[] = {{1, 1, 1},  {5, 0, 33},    {6, 3, 64},     {7, 90, 128},
                             {13, 7, 8}, {41, 64, 192}, {100, 17, 203}, {6, 1, 0}};

TEST(PropagateTest, AgreesWithTheReferenceOnEveryTarget) {
  ForEachTarget([] {
    for (const Shape& shape : kShapes) {
      const int64_t stride = shape.width + 3;
      const auto cached = RandomFloats(shape.num_tokens * stride, 1);
      std::vector<uint16_t> cached_bf16(cached.size());
      F32ToBf16(cached.data(), static_cast<int64_t>(cached.size()), cached_bf16.data());
      const auto weights = RandomFloats(shape.num_tokens * (shape.num_deltas + 1), 2);
      const auto deltas = RandomFloats(shape.num_deltas * stride, 3);
      for (int form = 0; form < 2; ++form) {
        std::vector<float> target(cached.size(), 8.0f);
        std::vector<float> want(cached.size(), 8.0f);
        PropagateParams params = {.cached_stride = stride,
                                  .weights = weights.data(),
                                  .weights_stride = shape.num_deltas + 1,
                                  .deltas = deltas.data(),
                                  .deltas_stride = stride,
                                  .target = target.data(),
                                  .target_stride = stride,
                                  .num_tokens = shape.num_tokens,
                                  .num_deltas = shape.num_deltas,
                                  .width = shape.width};
        if (form == 0) params.cached = cached.data();
        if (form == 1) params.cached_bf16 = cached_bf16.data();
        ASSERT_TRUE(Propagate(params).ok());
        params.target = want.data();
        ASSERT_TRUE(PropagateReference(params).ok());
        EXPECT_TRUE(ArraysAgree(target, want, kTolerance));
      }
    }
  });
}

TEST(PropagateTest, WithoutDeltasItConvertsTheCache) {
  const auto values = RandomFloats(int64_t{9} * 21, 1);
  std::vector<uint16_t> cached(values.size());
  F32ToBf16(values.data(), int64_t{9} * 21, cached.data());
  std::vector<float> want(values.size());
  Bf16ToF32(cached.data(), int64_t{9} * 21, want.data());
  ForEachTarget([&] {
    std::vector<float> target(values.size());
    ASSERT_TRUE(
        Propagate(
            {.cached_bf16 = cached.data(), .target = target.data(), .num_tokens = 9, .width = 21})
            .ok());
    EXPECT_EQ(target, want);
  });
}

TEST(PropagateTest, TheTargetMayBeTheCache) {
  auto cached = RandomFloats(int64_t{50} * 70, 1);
  const auto weights = RandomFloats(int64_t{50} * 5, 2);
  const auto deltas = RandomFloats(int64_t{5} * 70, 3);
  std::vector<float> target(cached.size());
  PropagateParams params = {.cached = cached.data(),
                            .weights = weights.data(),
                            .deltas = deltas.data(),
                            .target = target.data(),
                            .num_tokens = 50,
                            .num_deltas = 5,
                            .width = 70};
  ASSERT_TRUE(Propagate(params).ok());
  params.target = cached.data();
  ASSERT_TRUE(Propagate(params).ok());
  EXPECT_EQ(cached, target);
}

TEST(PropagateTest, ANanReachesTheTargetsOfItsColumnOnly) {
  ForEachTarget([] {
    const auto cached = RandomFloats(int64_t{8} * 40, 1);
    std::vector<float> weights(int64_t{8} * 2, 0.0f);
    auto deltas = RandomFloats(int64_t{2} * 40, 3);
    deltas[37] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> target(cached.size());
    std::vector<float> want(cached.size());
    PropagateParams params = {.cached = cached.data(),
                              .weights = weights.data(),
                              .deltas = deltas.data(),
                              .target = target.data(),
                              .num_tokens = 8,
                              .num_deltas = 2,
                              .width = 40};
    ASSERT_TRUE(Propagate(params).ok());
    params.target = want.data();
    ASSERT_TRUE(PropagateReference(params).ok());
    EXPECT_TRUE(ArraysAgree(target, want, kTolerance));
  });
}

TEST(PropagateTest, BadParametersAreRefusedByBothForms) {
  float x[4] = {};
  const uint16_t bits[4] = {};
  const PropagateParams good = {.cached = x,
                                .weights = x,
                                .deltas = x,
                                .target = x,
                                .num_tokens = 1,
                                .num_deltas = 1,
                                .width = 4};
  std::vector<PropagateParams> bad(7, good);
  bad[0].cached = nullptr;
  bad[1].cached_bf16 = bits;
  bad[2].target = nullptr;
  bad[3].weights = nullptr;
  bad[4].deltas = nullptr;
  bad[5].target_stride = 3;
  bad[6].num_deltas = -1;
  for (const PropagateParams& params : bad) {
    EXPECT_EQ(Propagate(params).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(PropagateReference(params).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(Propagate({}).ok()) << "no tokens, nothing to do";
}

}  // namespace
}  // namespace intarsia::kernels
