#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/quantize_rows.h"
#include "kernels/residual_norm.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/fp8_arrays.h"

namespace intarsia::kernels {
namespace {

// A bf16 has 8 bits, and two roundings of nearly equal numbers may differ by one of them.
constexpr Tolerance kBf16Tolerance{.absolute = 1e-6, .relative = 8e-3, .nmse = 1e-6};
constexpr Tolerance kF32Tolerance{.absolute = 1e-5, .relative = 1e-5, .nmse = 1e-11};

struct Case {
  int64_t num_rows = 0;
  int64_t dim = 0;
  bool has_addend = false;
  bool has_addend_weight = false;
};

struct Outputs {
  std::vector<float> hidden;
  std::vector<uint16_t> y;
};

class Data {
 public:
  explicit Data(const Case& problem) : problem_(problem) {
    const int64_t size = problem.num_rows * problem.dim;
    hidden = RandomFloats(size, 1, 3.0F);
    addend = RandomBf16(size, 2);
    weight = RandomFloats(problem.dim, 3);
    addend_weight = RandomFloats(problem.dim, 4);
  }

  Outputs Expected() const {
    Outputs outputs{hidden, std::vector<uint16_t>(hidden.size(), kBf16Nan)};
    const Status status =
        ResidualNormReference(Params(outputs.hidden.data(), addend.data(), addend_weight.data(),
                                     weight.data(), outputs.y.data()));
    EXPECT_TRUE(status.ok()) << status;
    return outputs;
  }

  Outputs OnDevice() const {
    DeviceArray<float> device_hidden(hidden);
    DeviceArray<uint16_t> device_addend(addend);
    DeviceArray<float> device_weight(weight);
    DeviceArray<float> device_addend_weight(addend_weight);
    auto y = FilledOnDevice<uint16_t>(static_cast<int64_t>(hidden.size()), kBf16Nan);
    const Status status =
        ResidualNormCuda(Params(device_hidden.data(), device_addend.data(),
                                device_addend_weight.data(), device_weight.data(), y.data()),
                         nullptr);
    EXPECT_TRUE(status.ok()) << status;
    Outputs outputs{device_hidden.CopyToHost(), y.CopyToHost()};
    EXPECT_TRUE(device_hidden.GuardsAreIntact() && y.GuardsAreIntact());
    EXPECT_EQ(device_addend.CopyToHost(), addend);
    return outputs;
  }

  std::vector<float> hidden;
  std::vector<uint16_t> addend;
  std::vector<float> weight;
  std::vector<float> addend_weight;

 private:
  ResidualNormParams Params(float* hidden_at, const uint16_t* addend_at,
                            const float* addend_weight_at, const float* weight_at,
                            uint16_t* y) const {
    return {.hidden = hidden_at,
            .addend = problem_.has_addend ? addend_at : nullptr,
            .addend_weight = problem_.has_addend_weight ? addend_weight_at : nullptr,
            .weight = weight_at,
            .y = y,
            .num_rows = problem_.num_rows,
            .dim = problem_.dim,
            .epsilon = 1e-5F};
  }

  const Case problem_;
};

using ResidualNormCudaTest = DeviceTest;

TEST_F(ResidualNormCudaTest, AgreesWithTheReferenceAndIsTheSameTwice) {
  for (const int64_t dim : {8, 64, 576, 2048, 2056, 4096, 4104, 16'384}) {
    for (const int64_t num_rows : {1, 3, 130}) {
      for (const auto& [has_addend, has_weight] :
           {std::pair{false, false}, {true, false}, {true, true}}) {
        SCOPED_TRACE(std::to_string(num_rows) + " rows of " + std::to_string(dim));
        const Data data({num_rows, dim, has_addend, has_weight});
        const Outputs expected = data.Expected();
        const Outputs actual = data.OnDevice();
        EXPECT_TRUE(ArraysAgree(actual.hidden, expected.hidden, kF32Tolerance));
        EXPECT_TRUE(ArraysAgree(ToFloats(actual.y), ToFloats(expected.y), kBf16Tolerance));
        const Outputs again = data.OnDevice();
        EXPECT_EQ(again.hidden, actual.hidden);
        EXPECT_EQ(again.y, actual.y);
      }
    }
  }
}

TEST_F(ResidualNormCudaTest, NanAndInfinityStayInTheirRows) {
  Data data({5, 576, true, true});
  data.hidden[576 + 7] = std::numeric_limits<float>::quiet_NaN();
  data.addend[3 * 576 + 100] = 0x7f80;  // infinity
  const Outputs expected = data.Expected();
  const Outputs actual = data.OnDevice();
  EXPECT_TRUE(ArraysAgree(actual.hidden, expected.hidden, kF32Tolerance));
  EXPECT_TRUE(ArraysAgree(ToFloats(actual.y), ToFloats(expected.y), kBf16Tolerance));
}

TEST_F(ResidualNormCudaTest, TheOutputMayBeTheAddend) {
  const Data data({33, 640, true, false});
  DeviceArray<float> hidden(data.hidden);
  DeviceArray<uint16_t> addend(data.addend);
  const DeviceArray<float> weight(data.weight);
  ASSERT_TRUE(ResidualNormCuda({.hidden = hidden.data(),
                                .addend = addend.data(),
                                .weight = weight.data(),
                                .y = addend.data(),
                                .num_rows = 33,
                                .dim = 640,
                                .epsilon = 1e-5F},
                               nullptr)
                  .ok());
  EXPECT_EQ(addend.CopyToHost(), data.OnDevice().y);
}

TEST_F(ResidualNormCudaTest, RowsInE4m3AreThoseOfBf16Quantised) {
  for (const int64_t dim : {8, 576, 2056, 4096, 16'384}) {
    for (const bool has_addend : {false, true}) {
      SCOPED_TRACE(dim);
      Data data({7, dim, has_addend, has_addend});
      data.hidden[static_cast<size_t>(3 * dim + 5)] = std::nanf("");
      std::fill_n(data.hidden.begin() + 5 * dim, dim, 0.0F);
      std::fill_n(data.addend.begin() + 5 * dim, dim, uint16_t{0});
      const Outputs in_bf16 = data.OnDevice();
      HostFp8Array expected(7, dim);
      ASSERT_TRUE(QuantizeRowsReference(
                      {.x = in_bf16.y.data(), .y = expected.target(), .num_rows = 7, .dim = dim})
                      .ok());
      const DeviceArray<float> hidden(data.hidden);
      const DeviceArray<uint16_t> addend(data.addend);
      const DeviceArray<float> weight(data.weight);
      const DeviceArray<float> addend_weight(data.addend_weight);
      const Fp8Array y(7, dim);
      ASSERT_TRUE(ResidualNormCuda({.hidden = hidden.data(),
                                    .addend = has_addend ? addend.data() : nullptr,
                                    .addend_weight = has_addend ? addend_weight.data() : nullptr,
                                    .weight = weight.data(),
                                    .y_fp8 = y.target(),
                                    .num_rows = 7,
                                    .dim = dim,
                                    .epsilon = 1e-5F},
                                   nullptr)
                      .ok());
      EXPECT_EQ(y.CopyToHost(), expected);
      EXPECT_TRUE(y.GuardsAreIntact() && hidden.GuardsAreIntact());
      EXPECT_TRUE(ArraysAgree(hidden.CopyToHost(), in_bf16.hidden, Tolerance{}));
    }
  }
}

TEST_F(ResidualNormCudaTest, BadParamsAreRefused) {
  const Data data({2, 64, true, true});
  const DeviceArray<float> floats(data.hidden);
  const DeviceArray<uint16_t> bits(data.addend);
  const ResidualNormParams good{.hidden = floats.data(),
                                .addend = bits.data(),
                                .weight = floats.data(),
                                .y = bits.data(),
                                .num_rows = 2,
                                .dim = 64};
  using Change = std::function<void(ResidualNormParams&)>;
  const std::vector<Change> invalid = {
      [](ResidualNormParams& params) { params.hidden = nullptr; },
      [](ResidualNormParams& params) { params.weight = nullptr; },
      [](ResidualNormParams& params) { params.y = nullptr; },
      [](ResidualNormParams& params) { params.y += 1; },
      [](ResidualNormParams& params) { params.y_fp8.codes = reinterpret_cast<uint8_t*>(params.y); },
      [](ResidualNormParams& params) {
        params.y_fp8.codes = reinterpret_cast<uint8_t*>(params.y);
        params.y = nullptr;
      },
      [](ResidualNormParams& params) { params.num_rows = -1; },
      [](ResidualNormParams& params) { params.num_rows = int64_t{1} << 40; },
      [](ResidualNormParams& params) { params.dim = 0; },
      [](ResidualNormParams& params) { params.epsilon = std::nanf(""); },
      [&](ResidualNormParams& params) {
        params.addend = nullptr;
        params.addend_weight = floats.data();
      },
  };
  for (size_t i = 0; i < invalid.size(); ++i) {
    ResidualNormParams params = good;
    invalid[i](params);
    EXPECT_EQ(ResidualNormCuda(params, nullptr).code(), StatusCode::kInvalidArgument) << i;
  }
  for (const int64_t dim : {12, 16'392}) {
    ResidualNormParams params = good;
    params.dim = dim;
    EXPECT_EQ(ResidualNormCuda(params, nullptr).code(), StatusCode::kUnsupported) << dim;
  }
  EXPECT_TRUE(ResidualNormCuda({.dim = 64}, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
