#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

struct Case {
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;
};

class DeviceMatrixCudaTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    auto products = DeviceMatrixProducts::Create();
    ASSERT_TRUE(products.ok()) << products.status();
    products_ = *std::move(products);
    auto workspace = DeviceBuffer::Allocate(DeviceMatrixProducts::kWorkspaceBytes, nullptr);
    ASSERT_TRUE(workspace.ok()) << workspace.status();
    workspace_ = *std::move(workspace);
  }

  template <typename T>
  void ExpectAgreement(const Case& problem, bool has_bias, T poison) {
    const std::vector<uint16_t> x = RandomBf16(problem.num_rows * problem.num_inputs, 1);
    const std::vector<uint16_t> weights =
        RandomBf16(problem.num_outputs * problem.num_inputs, 2, 0.5F);
    const std::vector<uint16_t> bias = RandomBf16(problem.num_outputs, 3, 10.0F);
    const int64_t size = problem.num_rows * problem.num_outputs;
    std::vector<T> expected(static_cast<size_t>(size), poison);
    const DeviceArray<uint16_t> device_x(x);
    const DeviceArray<uint16_t> device_weights(weights);
    const DeviceArray<uint16_t> device_bias(bias);
    const auto y = FilledOnDevice<T>(size, poison);
    DeviceMatMulParams params{.x = device_x.data(),
                              .weights = device_weights.data(),
                              .bias = has_bias ? device_bias.data() : nullptr,
                              .y = y.data(),
                              .y_type = sizeof(T) == 4 ? DeviceType::kF32 : DeviceType::kBf16,
                              .num_rows = problem.num_rows,
                              .num_inputs = problem.num_inputs,
                              .num_outputs = problem.num_outputs,
                              .workspace = workspace_.data()};
    const Status status = products_->MultiplyCuda(params, nullptr);
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<T> first = y.CopyToHost();
    ASSERT_TRUE(products_->MultiplyCuda(params, nullptr).ok());
    EXPECT_EQ(y.CopyToHost(), first);
    params.x = x.data();
    params.weights = weights.data();
    params.bias = has_bias ? bias.data() : nullptr;
    params.y = expected.data();
    ASSERT_TRUE(DeviceMatMulReference(params).ok());
    EXPECT_TRUE(y.GuardsAreIntact());
    // Sums of n products of deviation 0.5 are off by rounding alone; near 0 nothing is relative.
    const double deviation = 0.5 * std::sqrt(static_cast<double>(problem.num_inputs));
    if constexpr (sizeof(T) == 4) {
      EXPECT_TRUE(ArraysAgree(first, expected, {2e-5 * deviation, 1e-5, 1e-10}));
    } else {
      EXPECT_TRUE(ArraysAgree(ToFloats(first), ToFloats(expected), {2e-5 * deviation, 8e-3, 1e-5}));
    }
  }

  std::unique_ptr<DeviceMatrixProducts> products_;
  DeviceBuffer workspace_;
};

TEST_F(DeviceMatrixCudaTest, AgreesWithTheReferenceAndIsTheSameTwice) {
  for (const Case& problem : {Case{1, 8, 8},
                              {1, 576, 960},
                              {2, 64, 160},
                              {3, 1536, 576},
                              {8, 576, 1152},
                              {9, 96, 64},
                              {17, 4096, 512},
                              {65, 576, 64},
                              {129, 128, 264},
                              {200, 640, 1024},
                              {33, 2048, 640}}) {
    SCOPED_TRACE(std::to_string(problem.num_rows) + " x " + std::to_string(problem.num_inputs) +
                 " x " + std::to_string(problem.num_outputs));
    ExpectAgreement<uint16_t>(problem, /*has_bias=*/false, kBf16Nan);
    ExpectAgreement<uint16_t>(problem, /*has_bias=*/true, kBf16Nan);
    ExpectAgreement<float>(problem, /*has_bias=*/false, std::nanf(""));
  }
}

TEST_F(DeviceMatrixCudaTest, RowsMayBeginWhereVectorsMay) {
  // The second row of 584 begins 1,168 bytes behind the first, which is 16 times an odd number.
  const std::vector<uint16_t> x = RandomBf16(66 * 584, 1);
  const std::vector<uint16_t> weights = RandomBf16(64 * 584, 2, 0.5F);
  const DeviceArray<uint16_t> device_x(x);
  const DeviceArray<uint16_t> device_weights(weights);
  std::vector<std::vector<float>> rows;
  for (const int64_t first : {0, 1}) {
    const auto y = FilledOnDevice<float>(65 * 64, std::nanf(""));
    ASSERT_TRUE(products_
                    ->MultiplyCuda({.x = device_x.data() + first * 584,
                                    .weights = device_weights.data(),
                                    .y = y.data(),
                                    .y_type = DeviceType::kF32,
                                    .num_rows = 65,
                                    .num_inputs = 584,
                                    .num_outputs = 64,
                                    .workspace = workspace_.data()},
                                   nullptr)
                    .ok());
    rows.push_back(y.CopyToHost());
  }
  const std::vector<float> shifted(rows[0].begin() + 64, rows[0].end());
  rows[1].resize(shifted.size());
  EXPECT_TRUE(ArraysAgree(rows[1], shifted, {1e-3, 1e-5, 1e-9}));
}

TEST_F(DeviceMatrixCudaTest, BadParamsAreRefused) {
  const auto bits = FilledOnDevice<uint16_t>(256, 0x3f80);
  const DeviceMatMulParams good{.x = bits.data(),
                                .weights = bits.data(),
                                .y = bits.data() + 128,
                                .num_rows = 1,
                                .num_inputs = 8,
                                .num_outputs = 8,
                                .workspace = workspace_.data()};
  EXPECT_TRUE(products_->MultiplyCuda(good, nullptr).ok());
  DeviceMatMulParams params = good;
  params.weights = nullptr;
  EXPECT_EQ(products_->MultiplyCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.workspace = nullptr;
  EXPECT_EQ(products_->MultiplyCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = -1;
  EXPECT_EQ(products_->MultiplyCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_inputs = 12;
  EXPECT_EQ(products_->MultiplyCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.bias = bits.data();
  params.y_type = DeviceType::kF32;
  EXPECT_EQ(products_->MultiplyCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.num_rows = 0;
  params.x = nullptr;
  EXPECT_TRUE(products_->MultiplyCuda(params, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
