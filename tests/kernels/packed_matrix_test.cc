#include "kernels/packed_matrix.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

struct Weights {
  int64_t num_outputs = 0;
  int64_t num_inputs = 0;
  std::vector<float> values;

  ReadRows Reader() const {
    return [this](int64_t begin, int64_t end, float* target) {
      std::memcpy(target, values.data() + begin * num_inputs,
                  static_cast<size_t>((end - begin) * num_inputs) * sizeof(float));
      return Status::Ok();
    };
  }
};

Weights RandomWeights(int64_t num_outputs, int64_t num_inputs) {
  return {num_outputs, num_inputs, RandomFloats(num_outputs * num_inputs, 5, 0.05f)};
}

std::vector<float> Rounded(std::vector<float> values, ComputeType type) {
  if (type == ComputeType::kF32) return values;
  for (float& value : values) value = Bf16ToF32(F32ToBf16(value));
  return values;
}

// x W^T + bias in double, of what the compute type keeps of x and W.
std::vector<float> Expected(const Weights& weights, const std::vector<float>& x,
                            const std::vector<float>& bias, ComputeType type) {
  const auto w = Rounded(weights.values, type);
  const auto rows = Rounded(x, type);
  const auto num_inputs = static_cast<size_t>(weights.num_inputs);
  std::vector<float> y;
  for (size_t row = 0; row < rows.size() / num_inputs; ++row) {
    for (size_t output = 0; output < static_cast<size_t>(weights.num_outputs); ++output) {
      double sum = bias.empty() ? 0.0 : bias[output];
      for (size_t i = 0; i < num_inputs; ++i) {
        sum += double{rows[row * num_inputs + i]} * w[output * num_inputs + i];
      }
      y.push_back(static_cast<float>(sum));
    }
  }
  return y;
}

std::vector<ComputeType> Types() {
  if (HasFastBf16()) return {ComputeType::kF32, ComputeType::kBf16};
  return {ComputeType::kF32};
}

constexpr Tolerance kTolerance = {.absolute = 1e-4, .relative = 1e-4, .nmse = 1e-9};
constexpr float kGuard = 77.0f;

// Multiplies into an array with a guard band behind it.
std::vector<float> Multiply(const PackedMatrix& matrix, MatMulParams params, ThreadPool* pool) {
  const int64_t size = params.num_rows * matrix.num_outputs();
  std::vector<float> y(static_cast<size_t>(size + 16), kGuard);
  params.y = y.data();
  const Status status = MatMul(matrix, params, pool);
  EXPECT_TRUE(status.ok()) << status;
  for (size_t i = static_cast<size_t>(size); i < y.size(); ++i) EXPECT_EQ(y[i], kGuard);
  y.resize(static_cast<size_t>(size));
  return y;
}

TEST(PackedMatrixTest, ProductsAgreeWithDoublePrecisionForEveryShape) {
  constexpr int64_t kSizes[][2] = {{1, 1}, {30, 40}, {64, 576}, {193, 65}, {576, 96}, {700, 33}};
  for (const ComputeType type : Types()) {
    for (const auto& [num_outputs, num_inputs] : kSizes) {
      const Weights weights = RandomWeights(num_outputs, num_inputs);
      const auto bias = RandomFloats(num_outputs, 6);
      for (const int num_threads : {1, 2, 5}) {
        ThreadPool pool(num_threads);
        auto packed = PackedMatrix::Pack(num_outputs, num_inputs, type, weights.Reader(), &pool);
        ASSERT_TRUE(packed.ok()) << packed.status();
        for (const int64_t num_rows : {1, 3, 16, 17, 100, 128, 129, 260}) {
          if (num_threads == 5 && num_rows != 260) continue;
          const auto x = RandomFloats(num_rows * num_inputs, 7);
          const auto y =
              Multiply(**packed, {.x = x.data(), .bias = bias.data(), .num_rows = num_rows}, &pool);
          EXPECT_TRUE(ArraysAgree(y, Expected(weights, x, bias, type), kTolerance))
              << "rows=" << num_rows << " outputs=" << num_outputs << " inputs=" << num_inputs
              << " threads=" << num_threads << " type=" << static_cast<int>(type);
        }
      }
    }
  }
}

TEST(PackedMatrixTest, RoundedRowsGiveTheBitsOfRowsRoundedInside) {
  if (!HasFastBf16()) GTEST_SKIP() << "no native bf16 on this machine";
  ThreadPool pool(2);
  const Weights weights = RandomWeights(200, 70);
  auto packed = PackedMatrix::Pack(200, 70, ComputeType::kBf16, weights.Reader(), &pool);
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (const int64_t num_rows : {5, 64, 300}) {
    const auto x = RandomFloats(num_rows * 70, 8);
    std::vector<uint16_t> x_bf16(x.size());
    F32ToBf16(x.data(), num_rows * 70, x_bf16.data());
    const auto from_f32 = Multiply(**packed, {.x = x.data(), .num_rows = num_rows}, &pool);
    EXPECT_EQ(Multiply(**packed, {.x_bf16 = x_bf16.data(), .num_rows = num_rows}, &pool), from_f32);
    EXPECT_EQ(Multiply(**packed, {.x = x.data(), .num_rows = num_rows}, &pool), from_f32)
        << "again";
  }
}

TEST(PackedMatrixTest, ANanStaysInItsRow) {
  for (const ComputeType type : Types()) {
    ThreadPool pool(2);
    const Weights weights = RandomWeights(130, 50);
    auto packed = PackedMatrix::Pack(130, 50, type, weights.Reader(), &pool);
    ASSERT_TRUE(packed.ok()) << packed.status();
    auto x = RandomFloats(int64_t{150} * 50, 9);
    x[140 * 50 + 3] = std::numeric_limits<float>::quiet_NaN();
    const auto y = Multiply(**packed, {.x = x.data(), .num_rows = 150}, &pool);
    EXPECT_TRUE(ArraysAgree(y, Expected(weights, x, {}, type), kTolerance));
  }
}

TEST(PackedMatrixTest, OneMatrixServesSeveralCallersAtOnce) {
  const Weights weights = RandomWeights(192, 64);
  ThreadPool pool(2);
  auto packed = PackedMatrix::Pack(192, 64, Types().back(), weights.Reader(), &pool);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const auto x = RandomFloats(int64_t{70} * 64, 9);
  std::vector<std::vector<float>> results(3);
  std::vector<std::thread> callers;
  callers.reserve(results.size());
  for (auto& result : results) {
    callers.emplace_back([&] {
      ThreadPool own_pool(2);
      result = Multiply(**packed, {.x = x.data(), .num_rows = 70}, &own_pool);
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(PackedMatrixTest, SizesAndMemoryAreReported) {
  ThreadPool pool(1);
  const Weights weights = RandomWeights(128, 64);
  auto packed = PackedMatrix::Pack(128, 64, ComputeType::kF32, weights.Reader(), &pool);
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ((*packed)->num_outputs(), 128);
  EXPECT_EQ((*packed)->num_inputs(), 64);
  EXPECT_EQ((*packed)->type(), ComputeType::kF32);
  EXPECT_GE((*packed)->num_bytes(), int64_t{128} * 64 * 4);
}

TEST(PackedMatrixTest, BadInputIsAClearError) {
  ThreadPool pool(2);
  const Weights weights = RandomWeights(300, 8);
  for (const auto& [num_outputs, num_inputs] :
       {std::pair<int64_t, int64_t>{0, 8}, {300, 0}, {-1, 8}, {int64_t{1} << 40, 8}}) {
    EXPECT_EQ(
        PackedMatrix::Pack(num_outputs, num_inputs, ComputeType::kF32, weights.Reader(), &pool)
            .status()
            .code(),
        StatusCode::kInvalidArgument);
  }
  const ReadRows failing = [](int64_t, int64_t, float*) {
    return Status(StatusCode::kCorruption, "tensor is broken");
  };
  EXPECT_EQ(PackedMatrix::Pack(300, 8, ComputeType::kF32, failing, &pool).status().code(),
            StatusCode::kCorruption);

  auto packed = PackedMatrix::Pack(300, 8, ComputeType::kF32, weights.Reader(), &pool);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const std::vector<float> x(8);
  const std::vector<uint16_t> x_bf16(8);
  std::vector<float> y(300);
  const MatMulParams good = {.x = x.data(), .y = y.data(), .num_rows = 1};
  std::vector<MatMulParams> bad(5, good);
  bad[0].x = nullptr;
  bad[1].y = nullptr;
  bad[2].num_rows = -1;
  bad[3].x_bf16 = x_bf16.data();
  bad[4].x = nullptr;
  bad[4].x_bf16 = x_bf16.data();  // of an f32 matrix
  for (const MatMulParams& params : bad) {
    EXPECT_EQ(MatMul(**packed, params, &pool).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(MatMul(**packed, {}, &pool).ok()) << "no rows, nothing to do";
}

}  // namespace
}  // namespace intarsia::kernels
