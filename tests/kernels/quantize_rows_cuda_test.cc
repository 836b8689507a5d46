#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/quantize_rows.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/fp8_arrays.h"

namespace intarsia::kernels {
namespace {

// The kernel's rows and the definition's, which are the same to the bit.
void ExpectTheDefinition(const std::vector<uint16_t>& x, int64_t num_rows, int64_t dim) {
  const DeviceArray<uint16_t> device_x(x);
  Fp8Array actual(num_rows, dim);
  const Status status = QuantizeRowsCuda(
      {.x = device_x.data(), .y = actual.target(), .num_rows = num_rows, .dim = dim}, nullptr);
  ASSERT_TRUE(status.ok()) << status;
  HostFp8Array expected(num_rows, dim);
  ASSERT_TRUE(QuantizeRowsReference(
                  {.x = x.data(), .y = expected.target(), .num_rows = num_rows, .dim = dim})
                  .ok());
  EXPECT_EQ(actual.CopyToHost(), expected);
  EXPECT_TRUE(actual.GuardsAreIntact());
}

using QuantizeRowsCudaTest = DeviceTest;

TEST_F(QuantizeRowsCudaTest, IsTheDefinition) {
  for (const int64_t dim : {8, 64, 576, 2048, 2056, 4096, 14'336, 16'392, 32'768}) {
    for (const int64_t num_rows : {1, 3, 37}) {
      SCOPED_TRACE(std::to_string(num_rows) + " rows of " + std::to_string(dim));
      ExpectTheDefinition(RandomBf16(num_rows * dim, 1, 3.0F), num_rows, dim);
    }
  }
}

TEST_F(QuantizeRowsCudaTest, ExtremesAreTheDefinition) {
  constexpr int64_t kDim = 2056;
  std::vector<float> values = RandomFloats(9 * kDim, 2);
  const auto row = [&](int64_t index) { return values.begin() + index * kDim; };
  std::fill(row(0), row(1), 0.0F);
  std::fill(row(1), row(2), -0.0F);
  for (auto x = row(2); x != row(3); ++x) *x *= 1e-37F;
  for (auto x = row(3); x != row(4); ++x) *x *= 1e37F;
  row(4)[kDim - 1] = 1e30F;  // an outlier, beside which all others are 0
  row(5)[7] = std::nanf("");
  row(6)[kDim - 2] = std::numeric_limits<float>::infinity();
  row(7)[300] = -std::numeric_limits<float>::infinity();
  for (auto x = row(8); x != row(9); ++x) *x = std::ldexp(1.0F, static_cast<int>(x - row(8)) % 40);
  ExpectTheDefinition(ToBf16(values), 9, kDim);
}

TEST_F(QuantizeRowsCudaTest, BadParamsAreRefused) {
  const auto bits = FilledOnDevice<uint16_t>(128, 0x3f80);
  Fp8Array y(2, 64);
  const QuantizeRowsParams good{.x = bits.data(), .y = y.target(), .num_rows = 2, .dim = 64};
  using Change = std::function<void(QuantizeRowsParams&)>;
  const std::vector<Change> invalid = {
      [](QuantizeRowsParams& params) { params.x = nullptr; },
      [](QuantizeRowsParams& params) { params.x += 1; },
      [](QuantizeRowsParams& params) { params.y.codes = nullptr; },
      [](QuantizeRowsParams& params) { params.y.codes += 8; },
      [](QuantizeRowsParams& params) { params.y.scales = nullptr; },
      [](QuantizeRowsParams& params) { params.num_rows = -1; },
      [](QuantizeRowsParams& params) { params.num_rows = int64_t{1} << 40; },
      [](QuantizeRowsParams& params) { params.dim = 0; },
  };
  for (size_t i = 0; i < invalid.size(); ++i) {
    QuantizeRowsParams params = good;
    invalid[i](params);
    EXPECT_EQ(QuantizeRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument) << i;
  }
  for (const int64_t dim : {int64_t{12}, kFp8DimMax + 8}) {
    QuantizeRowsParams params = good;
    params.dim = dim;
    EXPECT_EQ(QuantizeRowsCuda(params, nullptr).code(), StatusCode::kUnsupported) << dim;
  }
  EXPECT_TRUE(QuantizeRowsCuda({.dim = 64}, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
