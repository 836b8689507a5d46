#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/scale_product.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

// The kernel is the definition to the bit; the tolerance is for the places of NaN.
constexpr Tolerance kExact{};

struct Case {
  int64_t num_rows = 0;
  int64_t num_outputs = 0;
  bool has_bias = false;
};

template <typename T>
void ExpectTheDefinition(const Case& problem, std::vector<T> y, DeviceType type) {
  std::vector<float> row_scales = RandomFloats(problem.num_rows, 5);
  row_scales.back() = std::nanf("");
  const std::vector<float> output_scales = RandomFloats(problem.num_outputs, 6);
  const std::vector<uint16_t> bias = RandomBf16(problem.num_outputs, 7);
  const DeviceArray<T> device_y(y);
  const DeviceArray<float> device_row_scales(row_scales);
  const DeviceArray<float> device_output_scales(output_scales);
  const DeviceArray<uint16_t> device_bias(bias);
  ScaleProductParams params{.y = device_y.data(),
                            .y_type = type,
                            .row_scales = device_row_scales.data(),
                            .output_scales = device_output_scales.data(),
                            .bias = problem.has_bias ? device_bias.data() : nullptr,
                            .num_rows = problem.num_rows,
                            .num_outputs = problem.num_outputs};
  const Status status = ScaleProductCuda(params, nullptr);
  ASSERT_TRUE(status.ok()) << status;
  params.y = y.data();
  params.row_scales = row_scales.data();
  params.output_scales = output_scales.data();
  params.bias = problem.has_bias ? bias.data() : nullptr;
  ASSERT_TRUE(ScaleProductReference(params).ok());
  const std::vector<T> actual = device_y.CopyToHost();
  if constexpr (sizeof(T) == 4) {
    EXPECT_TRUE(ArraysAgree(actual, y, kExact));
  } else {
    EXPECT_TRUE(ArraysAgree(ToFloats(actual), ToFloats(y), kExact));
  }
  EXPECT_TRUE(device_y.GuardsAreIntact());
}

using ScaleProductCudaTest = DeviceTest;

TEST_F(ScaleProductCudaTest, IsTheDefinition) {
  for (const Case& problem : {Case{1, 8, false},
                              {3, 2048, true},
                              {16, 2056, false},
                              {17, 576, true},
                              {130, 4104, true}}) {
    SCOPED_TRACE(std::to_string(problem.num_rows) + " x " + std::to_string(problem.num_outputs));
    const int64_t size = problem.num_rows * problem.num_outputs;
    ExpectTheDefinition(problem, RandomBf16(size, 1, 1e4F), DeviceType::kBf16);
    ExpectTheDefinition(problem, RandomFloats(size, 2, 1e4F), DeviceType::kF32);
  }
}

TEST_F(ScaleProductCudaTest, BadParamsAreRefused) {
  const auto floats = FilledOnDevice<float>(64, 1.0F);
  const ScaleProductParams good{.y = floats.data(),
                                .y_type = DeviceType::kF32,
                                .row_scales = floats.data() + 32,
                                .output_scales = floats.data() + 48,
                                .num_rows = 1,
                                .num_outputs = 8};
  EXPECT_TRUE(ScaleProductCuda(good, nullptr).ok());
  ScaleProductParams params = good;
  params.row_scales = nullptr;
  EXPECT_EQ(ScaleProductCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = -1;
  EXPECT_EQ(ScaleProductCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_outputs = 12;
  EXPECT_EQ(ScaleProductCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.y_type = static_cast<DeviceType>(7);
  EXPECT_EQ(ScaleProductCuda(params, nullptr).code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace intarsia::kernels
