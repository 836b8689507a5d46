#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/gated_activation.h"
#include "kernels/quantize_rows.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/fp8_arrays.h"

namespace intarsia::kernels {
namespace {

// One unit of bf16, and what fast exponentials lose near 0.
constexpr Tolerance kTolerance{.absolute = 1e-5, .relative = 8e-3, .nmse = 1e-6};

using GatedActivationCudaTest = DeviceTest;

TEST_F(GatedActivationCudaTest, AgreesWithTheReference) {
  for (const Activation kind : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    for (const int64_t dim : {8, 96, 2048, 2056, 4864}) {
      for (const int64_t num_rows : {1, 5, 131}) {
        SCOPED_TRACE(std::to_string(num_rows) + " rows of " + std::to_string(dim));
        const std::vector<uint16_t> gate_up = RandomBf16(num_rows * 2 * dim, 1, 4.0F);
        std::vector<uint16_t> expected(static_cast<size_t>(num_rows * dim), kBf16Nan);
        const DeviceArray<uint16_t> device_gate_up(gate_up);
        const auto y = FilledOnDevice<uint16_t>(num_rows * dim, kBf16Nan);
        GatedActivationParams params{.kind = kind,
                                     .gate_up = device_gate_up.data(),
                                     .y = y.data(),
                                     .num_rows = num_rows,
                                     .dim = dim};
        ASSERT_TRUE(GatedActivationCuda(params, nullptr).ok());
        params.gate_up = gate_up.data();
        params.y = expected.data();
        ASSERT_TRUE(GatedActivationReference(params).ok());
        EXPECT_TRUE(ArraysAgree(ToFloats(y.CopyToHost()), ToFloats(expected), kTolerance));
        EXPECT_TRUE(y.GuardsAreIntact());
      }
    }
  }
}

TEST_F(GatedActivationCudaTest, ExtremesHaveTheirLimits) {
  std::vector<float> values = {-1e38F, 1e38F, 0.0F, -0.0F, -100.0F, 100.0F, 1e-38F, -88.7F};
  values.insert(values.end(), {1.0F, 1.0F, 2.0F, 2.0F, 1.0F, 1.0F, 1.0F, 1.0F});
  std::vector<uint16_t> gate_up = ToBf16(values);
  gate_up[2] = 0x7f80;  // infinity
  gate_up[3] = 0xff80;  // -infinity
  gate_up[6] = kBf16Nan;
  for (const Activation kind : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    std::vector<uint16_t> expected(8, kBf16Nan);
    const DeviceArray<uint16_t> device_gate_up(gate_up);
    const auto y = FilledOnDevice<uint16_t>(8, 0);
    GatedActivationParams params{
        .kind = kind, .gate_up = device_gate_up.data(), .y = y.data(), .num_rows = 1, .dim = 8};
    ASSERT_TRUE(GatedActivationCuda(params, nullptr).ok());
    params.gate_up = gate_up.data();
    params.y = expected.data();
    ASSERT_TRUE(GatedActivationReference(params).ok());
    EXPECT_TRUE(ArraysAgree(ToFloats(y.CopyToHost()), ToFloats(expected), kTolerance));
  }
}

TEST_F(GatedActivationCudaTest, RowsInE4m3AreThoseOfBf16Quantised) {
  for (const Activation kind : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    for (const int64_t dim : {8, 2056, 4864, 14'336, 16'392, 32'768}) {
      SCOPED_TRACE(dim);
      constexpr int64_t kRows = 3;
      std::vector<uint16_t> gate_up = RandomBf16(kRows * 2 * dim, 3, 4.0F);
      gate_up[static_cast<size_t>(2 * dim + 1)] = kBf16Nan;
      const DeviceArray<uint16_t> device_gate_up(gate_up);
      const auto in_bf16 = FilledOnDevice<uint16_t>(kRows * dim, kBf16Nan);
      const Fp8Array y(kRows, dim);
      GatedActivationParams params{.kind = kind,
                                   .gate_up = device_gate_up.data(),
                                   .y = in_bf16.data(),
                                   .num_rows = kRows,
                                   .dim = dim};
      ASSERT_TRUE(GatedActivationCuda(params, nullptr).ok());
      params.y = nullptr;
      params.y_fp8 = y.target();
      ASSERT_TRUE(GatedActivationCuda(params, nullptr).ok());
      const std::vector<uint16_t> rows = in_bf16.CopyToHost();
      HostFp8Array expected(kRows, dim);
      ASSERT_TRUE(QuantizeRowsReference(
                      {.x = rows.data(), .y = expected.target(), .num_rows = kRows, .dim = dim})
                      .ok());
      EXPECT_EQ(y.CopyToHost(), expected);
      EXPECT_TRUE(y.GuardsAreIntact());
    }
  }
}

TEST_F(GatedActivationCudaTest, BadParamsAreRefused) {
  const auto bits = FilledOnDevice<uint16_t>(64, 0x3f80);
  const GatedActivationParams good{
      .gate_up = bits.data(), .y = bits.data() + 32, .num_rows = 1, .dim = 8};
  EXPECT_TRUE(GatedActivationCuda(good, nullptr).ok());
  GatedActivationParams params = good;
  params.y = nullptr;
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = -1;
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.y_fp8.codes = reinterpret_cast<uint8_t*>(bits.data());
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params.y = nullptr;  // codes, but no scales
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params.dim = kFp8DimMax + 8;
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.dim = 12;
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.kind = static_cast<Activation>(9);
  EXPECT_EQ(GatedActivationCuda(params, nullptr).code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace intarsia::kernels
