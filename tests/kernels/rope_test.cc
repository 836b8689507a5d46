#include "kernels/rope.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

std::unique_ptr<RopeTable> MakeTable(const RopeOptions& options) {
  auto table = RopeTable::Create(options);
  EXPECT_TRUE(table.ok()) << table.status();
  return std::move(*table);
}

TEST(RopeTest, CosinesAreThoseOfTheAngleAtAnyPosition) {
  const auto table = MakeTable({.rotary_dim = 64, .base = 100'000.0});
  const std::vector<int32_t> positions = {
      0, 1, 255, 256, 257, 8'191, 65'535, 65'536, 1'000'003, RopeTable::kPositionsMax - 1};
  std::vector<float> cosines(positions.size() * 32);
  std::vector<float> sines(cosines.size());
  ASSERT_TRUE(table
                  ->Fill(positions.data(), static_cast<int64_t>(positions.size()), cosines.data(),
                         sines.data())
                  .ok());
  for (size_t t = 0; t < positions.size(); ++t) {
    for (size_t i = 0; i < 32; ++i) {
      const double angle = positions[t] * std::pow(100'000.0, -2.0 * static_cast<double>(i) / 64);
      EXPECT_NEAR(cosines[t * 32 + i], std::cos(angle), 1e-7);
      EXPECT_NEAR(sines[t * 32 + i], std::sin(angle), 1e-7);
    }
  }
}

TEST(RopeTest, LinearScalingAndDivisorsSlowTheRotationDown) {
  const auto plain = MakeTable({.rotary_dim = 8});
  const auto scaled = MakeTable({.rotary_dim = 8, .scaling = RopeScaling::kLinear, .factor = 8.0});
  const auto divided = MakeTable({.rotary_dim = 8, .frequency_divisors = {1, 2, 4, 8}});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(scaled->frequencies()[i], plain->frequencies()[i] / 8.0);
    EXPECT_DOUBLE_EQ(divided->frequencies()[i], plain->frequencies()[i] / std::exp2(i));
  }
}

TEST(RopeTest, Llama3ScalingKeepsFastAndSlowsSlowPairs) {
  const RopeOptions options = {.rotary_dim = 128,
                               .base = 500'000.0,
                               .scaling = RopeScaling::kLlama3,
                               .factor = 32.0,
                               .low_freq_factor = 1.0,
                               .high_freq_factor = 4.0,
                               .original_context = 8'192};
  const auto table = MakeTable(options);
  const auto plain = MakeTable({.rotary_dim = 128, .base = 500'000.0});
  int num_between = 0;
  for (size_t i = 0; i < 64; ++i) {
    const double frequency = plain->frequencies()[i];
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    const double got = table->frequencies()[i];
    if (wavelength < 8'192.0 / 4.0) {
      EXPECT_DOUBLE_EQ(got, frequency);
    } else if (wavelength > 8'192.0) {
      EXPECT_DOUBLE_EQ(got, frequency / 32.0);
    } else {
      const double smooth = (8'192.0 / wavelength - 1.0) / 3.0;
      EXPECT_NEAR(got, ((1.0 - smooth) / 32.0 + smooth) * frequency, 1e-15);
      ++num_between;
    }
  }
  EXPECT_GT(num_between, 2);
}

TEST(RopeTest, BadOptionsAndPositionsAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<RopeOptions> bad = {
      {.rotary_dim = 0},
      {.rotary_dim = 7},
      {.rotary_dim = 8, .base = 0.0},
      {.rotary_dim = 8, .base = std::nan("")},
      {.rotary_dim = 8, .factor = -1.0},
      {.rotary_dim = 8, .scaling = RopeScaling::kLlama3},
      {.rotary_dim = 8, .frequency_divisors = {1, 1, 1}},
      {.rotary_dim = 8, .frequency_divisors = {1, 1, nan, 1}},
  };
  for (const RopeOptions& options : bad) {
    EXPECT_EQ(RopeTable::Create(options).status().code(), StatusCode::kInvalidArgument);
  }
  const auto table = MakeTable({.rotary_dim = 2});
  float cosine = 0.0f;
  float sine = 0.0f;
  for (const int32_t position : {-1, RopeTable::kPositionsMax}) {
    EXPECT_EQ(table->Fill(&position, 1, &cosine, &sine).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(table->Fill(nullptr, 0, nullptr, nullptr).ok());
}

struct Shape {
  int64_t num_tokens;
  int32_t num_heads;
  int32_t head_dim;
  int32_t rotary_dim;
  int64_t gap;
};
constexpr Shape kShapes[] = {{1, 1, 2, 2, 0},     {3, 9, 64, 64, 0},    {5, 2, 64, 32, 7},
                             {4, 3, 80, 74, 100}, {90, 4, 256, 256, 0}, {2, 1, 16, 6, 0}};

TEST(RopeTest, RotationAgreesWithTheReferenceInBothPairings) {
  ThreadPool pool(2);
  ForEachTarget([&] {
    for (const Shape& shape : kShapes) {
      for (const RopePairing pairing : {RopePairing::kHalfSplit, RopePairing::kInterleaved}) {
        const int64_t stride = int64_t{shape.num_heads} * shape.head_dim + shape.gap;
        auto x = RandomFloats(shape.num_tokens * stride, 1);
        x[0] = std::numeric_limits<float>::infinity();
        const auto cosines = RandomFloats(shape.num_tokens * shape.rotary_dim / 2, 2);
        const auto sines = RandomFloats(shape.num_tokens * shape.rotary_dim / 2, 3);
        std::vector<float> y(x.size(), 4.0f);
        std::vector<float> want(x.size(), 4.0f);
        ApplyRopeParams params = {.x = x.data(),
                                  .x_stride = stride,
                                  .cosines = cosines.data(),
                                  .sines = sines.data(),
                                  .y = y.data(),
                                  .y_stride = stride,
                                  .num_tokens = shape.num_tokens,
                                  .num_heads = shape.num_heads,
                                  .head_dim = shape.head_dim,
                                  .rotary_dim = shape.rotary_dim,
                                  .pairing = pairing};
        ASSERT_TRUE(ApplyRope(params, &pool).ok());
        params.y = want.data();
        ASSERT_TRUE(ApplyRopeReference(params).ok());
        EXPECT_TRUE(ArraysAgree(y, want, {.absolute = 1e-6, .relative = 1e-6, .nmse = 1e-12}));
        params.y = x.data();
        ASSERT_TRUE(ApplyRope(params, nullptr).ok());
        for (int64_t token = 0; token < shape.num_tokens; ++token) {
          for (int64_t i = 0; i < stride - shape.gap; ++i) {
            const auto at = static_cast<size_t>(token * stride + i);
            ASSERT_EQ(std::bit_cast<uint32_t>(x[at]), std::bit_cast<uint32_t>(y[at])) << "in place";
          }
        }
      }
    }
  });
}

TEST(RopeTest, BadRotationParametersAreRefusedByBothForms) {
  float x[8] = {};
  const ApplyRopeParams good = {.x = x,
                                .cosines = x,
                                .sines = x,
                                .y = x,
                                .num_tokens = 1,
                                .num_heads = 1,
                                .head_dim = 8,
                                .rotary_dim = 8};
  std::vector<ApplyRopeParams> bad(7, good);
  bad[0].x = nullptr;
  bad[1].sines = nullptr;
  bad[2].rotary_dim = 10;
  bad[3].rotary_dim = 3;
  bad[4].num_heads = 0;
  bad[5].y_stride = 7;
  bad[6].pairing = static_cast<RopePairing>(5);
  for (const ApplyRopeParams& params : bad) {
    EXPECT_EQ(ApplyRope(params, nullptr).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(ApplyRopeReference(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
