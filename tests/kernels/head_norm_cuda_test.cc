#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/head_norm.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

constexpr Tolerance kTolerance{.absolute = 1e-6, .relative = 8e-3, .nmse = 1e-6};

using HeadNormCudaTest = DeviceTest;

TEST_F(HeadNormCudaTest, AgreesWithTheReferenceAndLeavesValuesAlone) {
  for (const int32_t head_dim : {8, 16, 64, 128, 248, 256}) {
    for (const int64_t num_rows : {1, 7, 65}) {
      SCOPED_TRACE(std::to_string(num_rows) + " rows, head_dim " + std::to_string(head_dim));
      const int32_t num_q_heads = 5;
      const int32_t num_k_heads = 2;
      const int64_t stride = (num_q_heads + 2 * num_k_heads) * head_dim;
      std::vector<uint16_t> heads = RandomBf16(num_rows * stride, 1, 4.0F);
      const std::vector<float> q_weight = RandomFloats(head_dim, 2);
      const std::vector<float> k_weight = RandomFloats(head_dim, 3);
      if (num_rows == 7) heads[static_cast<size_t>(stride * 2 + 3)] = kBf16Nan;
      DeviceArray<uint16_t> device_heads(heads);
      const DeviceArray<float> device_q_weight(q_weight);
      const DeviceArray<float> device_k_weight(k_weight);
      HeadNormParams params{.heads = device_heads.data(),
                            .stride = stride,
                            .q_weight = device_q_weight.data(),
                            .k_weight = device_k_weight.data(),
                            .num_rows = num_rows,
                            .num_q_heads = num_q_heads,
                            .num_k_heads = num_k_heads,
                            .head_dim = head_dim,
                            .epsilon = 1e-6F};
      ASSERT_TRUE(HeadNormCuda(params, nullptr).ok());
      params.heads = heads.data();
      params.q_weight = q_weight.data();
      params.k_weight = k_weight.data();
      ASSERT_TRUE(HeadNormReference(params).ok());
      EXPECT_TRUE(ArraysAgree(ToFloats(device_heads.CopyToHost()), ToFloats(heads), kTolerance));
      EXPECT_TRUE(device_heads.GuardsAreIntact());
    }
  }
}

TEST_F(HeadNormCudaTest, BadParamsAreRefused) {
  const auto heads = FilledOnDevice<uint16_t>(1024, 0x3f80);
  const auto weight = FilledOnDevice<float>(256, 1.0F);
  const HeadNormParams good{.heads = heads.data(),
                            .stride = 512,
                            .q_weight = weight.data(),
                            .k_weight = weight.data(),
                            .num_rows = 2,
                            .num_q_heads = 2,
                            .num_k_heads = 1,
                            .head_dim = 128};
  EXPECT_TRUE(HeadNormCuda(good, nullptr).ok());
  HeadNormParams params = good;
  params.stride = 376;
  EXPECT_EQ(HeadNormCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.k_weight = nullptr;
  EXPECT_EQ(HeadNormCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.epsilon = -1.0F;
  EXPECT_EQ(HeadNormCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.head_dim = 100;
  EXPECT_EQ(HeadNormCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params.num_rows = 0;
  params.head_dim = 128;
  params.heads = nullptr;
  EXPECT_TRUE(HeadNormCuda(params, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
