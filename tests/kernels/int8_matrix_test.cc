#include "kernels/int8_matrix.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr float kGuard = 77.0F;

struct Problem {
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;
  std::vector<float> weights;
  std::vector<float> x;
  std::vector<float> bias;

  Problem(int64_t rows, int64_t inputs, int64_t outputs)
      : num_rows(rows),
        num_inputs(inputs),
        num_outputs(outputs),
        weights(RandomFloats(outputs * inputs, 5, 0.05F)),
        x(RandomFloats(rows * inputs, 6, 1.0F)),
        bias(RandomFloats(outputs, 7, 0.5F)) {}

  ReadRows Reader() const {
    return [this](int64_t begin, int64_t end, float* target) {
      std::memcpy(target, weights.data() + begin * num_inputs,
                  static_cast<size_t>((end - begin) * num_inputs) * sizeof(float));
      return Status::Ok();
    };
  }
  std::unique_ptr<Int8Matrix> Pack(ThreadPool* pool) const {
    auto packed = Int8Matrix::Pack(num_outputs, num_inputs, Reader(), pool);
    EXPECT_TRUE(packed.ok()) << packed.status();
    return *std::move(packed);
  }
  std::vector<float> Multiply(const Int8Matrix& matrix, ThreadPool* pool) const {
    std::vector<float> y(static_cast<size_t>(num_rows * num_outputs + 16), kGuard);
    const Status status = MatMul(
        matrix, {.x = x.data(), .bias = bias.data(), .y = y.data(), .num_rows = num_rows}, pool);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t i = y.size() - 16; i < y.size(); ++i) EXPECT_EQ(y[i], kGuard);
    y.resize(y.size() - 16);
    return y;
  }
  std::vector<float> Expected() const {
    std::vector<float> y(static_cast<size_t>(num_rows * num_outputs));
    Int8ProductReference({.weights = weights.data(),
                          .x = x.data(),
                          .bias = bias.data(),
                          .y = y.data(),
                          .num_rows = num_rows,
                          .num_outputs = num_outputs,
                          .num_inputs = num_inputs});
    return y;
  }
};

constexpr Tolerance kTolerance = {.absolute = 1e-4, .relative = 1e-4, .nmse = 1e-10};

TEST(Int8MatrixTest, EveryInstructionSetFollowsTheDefinition) {
  ThreadPool pool(3);
  for (const auto& [rows, inputs, outputs] :
       {std::tuple(1, 1, 1), std::tuple(2, 4, 64), std::tuple(5, 127, 65), std::tuple(7, 128, 63),
        std::tuple(13, 130, 200), std::tuple(97, 259, 129), std::tuple(200, 64, 17)}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(inputs) + " x " +
                 std::to_string(outputs));
    const Problem problem(rows, inputs, outputs);
    const std::vector<float> expected = problem.Expected();
    ForEachTarget([&] {
      const auto matrix = problem.Pack(&pool);
      EXPECT_TRUE(ArraysAgree(problem.Multiply(*matrix, &pool), expected, kTolerance));
    });
  }
}

TEST(Int8MatrixTest, AnOutlierCostsItsOwnGroupAlone) {
  ThreadPool pool(2);
  Problem problem(1, 512, 32);
  problem.x[7] = 5'000.0F;
  std::vector<double> exact(32);
  std::vector<double> rest(32);  // without the group of the outlier
  for (size_t output = 0; output < 32; ++output) {
    for (size_t i = 0; i < 512; ++i) {
      const double term = double{problem.x[i]} * problem.weights[output * 512 + i];
      exact[output] += term;
      if (i >= 128) rest[output] += term;
    }
  }
  const auto matrix = problem.Pack(&pool);
  const std::vector<float> with = problem.Multiply(*matrix, &pool);
  std::fill_n(problem.x.begin(), 128, 0.0F);
  const std::vector<float> without = problem.Multiply(*matrix, &pool);
  for (size_t output = 0; output < 32; ++output) {
    EXPECT_NEAR(with[output] - problem.bias[output], exact[output], 12.0);
    EXPECT_NEAR(without[output] - problem.bias[output], rest[output], 0.05);
  }
}

TEST(Int8MatrixTest, Bf16RowsAreTakenAsTheyAre) {
  ThreadPool pool(2);
  Problem problem(9, 200, 70);
  std::vector<uint16_t> bits;
  for (float& value : problem.x) {
    bits.push_back(F32ToBf16(value));
    value = Bf16ToF32(bits.back());
  }
  const auto matrix = problem.Pack(&pool);
  const std::vector<float> from_f32 = problem.Multiply(*matrix, &pool);
  std::vector<float> y(from_f32.size());
  ASSERT_TRUE(
      MatMul(*matrix,
             {.x_bf16 = bits.data(), .bias = problem.bias.data(), .y = y.data(), .num_rows = 9},
             &pool)
          .ok());
  EXPECT_EQ(y, from_f32);
}

TEST(Int8MatrixTest, ARowThatIsNotFiniteSpoilsItselfOnly) {
  ThreadPool pool(2);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Problem problem(8, 300, 80);
    const auto matrix = problem.Pack(&pool);
    const std::vector<float> before = problem.Multiply(*matrix, &pool);
    problem.x[3 * 300 + 299] = bad;
    const std::vector<float> after = problem.Multiply(*matrix, &pool);
    for (size_t i = 0; i < before.size(); ++i) {
      if (i / 80 == 3) {
        EXPECT_TRUE(std::isnan(after[i]));
      } else {
        EXPECT_EQ(after[i], before[i]);
      }
    }
  }
}

TEST(Int8MatrixTest, BitsDependNeitherOnThreadsNorOnOtherRows) {
  Problem problem(150, 260, 130);
  std::vector<float> first;
  for (const int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    const auto matrix = problem.Pack(&pool);
    const std::vector<float> y = problem.Multiply(*matrix, &pool);
    if (first.empty()) first = y;
    EXPECT_EQ(y, first);
    std::vector<float> one(130);
    ASSERT_TRUE(MatMul(*matrix,
                       {.x = problem.x.data() + 149 * 260,
                        .bias = problem.bias.data(),
                        .y = one.data(),
                        .num_rows = 1},
                       &pool)
                    .ok());
    EXPECT_EQ(one, std::vector<float>(first.end() - 130, first.end()));
  }
}

TEST(Int8MatrixTest, RefusesWhatMakesNoSense) {
  ThreadPool pool(2);
  const Problem problem(1, 8, 8);
  for (const auto& [outputs, inputs] :
       {std::pair<int64_t, int64_t>(0, 8), {8, 0}, {int64_t{1} << 40, 8}, {8, -1}}) {
    EXPECT_EQ(Int8Matrix::Pack(outputs, inputs, problem.Reader(), &pool).status().code(),
              StatusCode::kInvalidArgument);
  }
  const ReadRows failing = [](int64_t, int64_t, float*) {
    return Status(StatusCode::kCorruption, "torn");
  };
  EXPECT_EQ(Int8Matrix::Pack(8, 8, failing, &pool).status().code(), StatusCode::kCorruption);
  const auto matrix = problem.Pack(&pool);
  float y[8];
  const uint16_t bits[8] = {};
  const float* const x = problem.x.data();
  EXPECT_EQ(MatMul(*matrix, {.x = x, .num_rows = 1}, &pool).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MatMul(*matrix, {.y = y, .num_rows = 1}, &pool).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MatMul(*matrix, {.x = x, .x_bf16 = bits, .y = y, .num_rows = 1}, &pool).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(MatMul(*matrix, {.x = x, .y = y, .num_rows = -1}, &pool).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(MatMul(*matrix, {.num_rows = 0}, &pool).ok());
}

}  // namespace
}  // namespace intarsia::kernels
