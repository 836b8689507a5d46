#include "kernels/hadamard_rotate.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRounds = 4;

struct Problem {
  std::vector<float> input;
  std::vector<float> signs;
  std::vector<float> output;

  explicit Problem(int64_t dim) {
    std::mt19937 random(static_cast<uint32_t>(dim));
    std::normal_distribution<float> normal;
    input.resize(static_cast<size_t>(dim));
    output.resize(static_cast<size_t>(dim));
    signs.resize(static_cast<size_t>(kRounds * dim));
    for (float& value : input) value = normal(random);
    for (float& sign : signs) sign = random() % 2 == 0 ? 1.0F : -1.0F;
  }

  HadamardRotateParams params() {
    HadamardRotateParams params;
    params.input = input.data();
    params.output = output.data();
    params.signs = signs.data();
    params.dim = static_cast<int64_t>(input.size());
    params.num_rounds = kRounds;
    return params;
  }
};

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

TEST(HadamardRotateTest, EveryTargetAgreesWithTheReference) {
  for (const int64_t dim : {64, 128, 192, 320, 384, 768, 1024}) {
    SCOPED_TRACE(testing::Message() << "dim=" << dim);
    Problem problem(dim);
    ASSERT_TRUE(HadamardRotateReference(problem.params()).ok());
    const std::vector<float> expected = problem.output;
    ForEachTarget([&] {
      ASSERT_TRUE(HadamardRotate(problem.params()).ok());
      EXPECT_TRUE(ArraysAgree(problem.output, expected,
                              {.absolute = 1e-4, .relative = 1e-4, .nmse = 1e-10}));
    });
  }
}

TEST(HadamardRotateTest, InnerProductsAndLengthsAreKept) {
  Problem a(384);
  Problem b(384);
  b.input[0] += 5.0F;
  b.input[100] -= 7.0F;
  ASSERT_TRUE(HadamardRotate(a.params()).ok());
  ASSERT_TRUE(HadamardRotate(b.params()).ok());
  EXPECT_NEAR(Dot(a.output, b.output), Dot(a.input, b.input), 1e-2);
  EXPECT_NEAR(Dot(b.output, b.output), Dot(b.input, b.input), 1e-2);
}

TEST(HadamardRotateTest, OneCoordinateIsSpreadOverAll) {
  for (const int64_t dim : {384, 448, 768}) {
    Problem problem(dim);
    problem.input.assign(problem.input.size(), 0.0F);
    problem.input[static_cast<size_t>(dim - 1)] = 1.0F;
    ASSERT_TRUE(HadamardRotate(problem.params()).ok());
    float largest = 0.0F;
    for (const float value : problem.output) largest = std::fmax(largest, std::fabs(value));
    EXPECT_LT(largest, 6.0 / std::sqrt(static_cast<double>(dim))) << dim;
  }
}

TEST(HadamardRotateTest, WorksInPlace) {
  Problem problem(192);
  ASSERT_TRUE(HadamardRotate(problem.params()).ok());
  HadamardRotateParams params = problem.params();
  params.output = problem.input.data();
  ASSERT_TRUE(HadamardRotate(params).ok());
  EXPECT_EQ(problem.input, problem.output);
}

TEST(HadamardRotateTest, BadParamsAreRefusedByBothForms) {
  Problem problem(64);
  for (const auto& op : {&HadamardRotate, &HadamardRotateReference}) {
    HadamardRotateParams params = problem.params();
    params.dim = 100;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.num_rounds = 0;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.signs = nullptr;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
