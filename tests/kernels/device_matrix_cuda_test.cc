#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_matrix_test.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

class DeviceMatrixCudaTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    products_.Create({});
  }

  template <typename T>
  void ExpectAgreement(const ProductCase& problem, bool has_bias, T poison) {
    const std::vector<uint16_t> x = RandomBf16(problem.num_rows * problem.num_inputs, 1);
    const std::vector<uint16_t> weights =
        RandomBf16(problem.num_outputs * problem.num_inputs, 2, 0.5F);
    const std::vector<uint16_t> bias = RandomBf16(problem.num_outputs, 3, 10.0F);
    const DeviceArray<uint16_t> device_x(x);
    const DeviceArray<uint16_t> device_weights(weights);
    const DeviceArray<uint16_t> device_bias(bias);
    DeviceMatMulParams params{.x = device_x.data(),
                              .weights = device_weights.data(),
                              .bias = has_bias ? device_bias.data() : nullptr};
    const std::vector<T> first = products_.MultiplyTwice<T>(problem, poison, &params);
    params.x = x.data();
    params.weights = weights.data();
    params.bias = has_bias ? bias.data() : nullptr;
    const std::vector<T> expected = ProductOfReference<T>(params, poison);
    // Sums of n products of deviation 0.5 are off by rounding alone; near 0 nothing is relative.
    const double deviation = 0.5 * std::sqrt(static_cast<double>(problem.num_inputs));
    if constexpr (sizeof(T) == 4) {
      EXPECT_TRUE(ArraysAgree(first, expected, {2e-5 * deviation, 1e-5, 1e-10}));
    } else {
      EXPECT_TRUE(ArraysAgree(ToFloats(first), ToFloats(expected), {2e-5 * deviation, 8e-3, 1e-5}));
    }
  }

  ProductsOnDevice products_;
};

TEST_F(DeviceMatrixCudaTest, AgreesWithTheReferenceAndIsTheSameTwice) {
  for (const ProductCase& problem : {ProductCase{1, 8, 8},
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
    SCOPED_TRACE(problem.ToString());
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
                    .Multiply({.x = device_x.data() + first * 584,
                               .weights = device_weights.data(),
                               .y = y.data(),
                               .y_type = DeviceType::kF32,
                               .num_rows = 65,
                               .num_inputs = 584,
                               .num_outputs = 64,
                               .workspace = products_.workspace()})
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
                                .workspace = products_.workspace()};
  EXPECT_TRUE(products_.Multiply(good).ok());
  DeviceMatMulParams params = good;
  params.weights = nullptr;
  EXPECT_EQ(products_.Multiply(params).code(), StatusCode::kInvalidArgument);
  params = good;
  params.workspace = nullptr;
  EXPECT_EQ(products_.Multiply(params).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = -1;
  EXPECT_EQ(products_.Multiply(params).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_inputs = 12;
  EXPECT_EQ(products_.Multiply(params).code(), StatusCode::kUnsupported);
  params = good;
  params.bias = bits.data();
  params.y_type = DeviceType::kF32;
  EXPECT_EQ(products_.Multiply(params).code(), StatusCode::kUnsupported);
  params = good;
  params.num_rows = 0;
  params.x = nullptr;
  EXPECT_TRUE(products_.Multiply(params).ok());
}

}  // namespace
}  // namespace intarsia::kernels
