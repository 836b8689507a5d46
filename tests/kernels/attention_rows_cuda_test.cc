#include "kernels/attention_rows_cuda.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/attention_rows_device_data.h"
#include "tests/kernels/attention_rows_expectations.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

Status RunOnDevice(const AttentionRowsCudaParams& params) {
  return AttentionRowsCuda(params, /*stream=*/nullptr);
}

// Positions in ascending order with gaps of `step`.
std::vector<int32_t> Every(int32_t step, int32_t begin, int32_t end) {
  std::vector<int32_t> positions;
  for (int32_t position = begin; position < end; position += step) positions.push_back(position);
  return positions;
}

std::vector<AttentionRowsCase> TilesOf(int32_t head_dim, int32_t num_heads, int32_t num_kv_heads) {
  std::vector<AttentionRowsCase> cases;
  const auto add = [&](const std::string& name, std::vector<int32_t> positions) {
    cases.push_back({.name = name + "_" + std::to_string(num_heads) + "_" +
                             std::to_string(num_kv_heads) + "_" + std::to_string(head_dim),
                     .num_heads = num_heads,
                     .num_kv_heads = num_kv_heads,
                     .head_dim = head_dim,
                     .positions = std::move(positions)});
  };
  for (const int32_t size : {1, 17, 63, 64, 65, 127, 128, 129, 200}) {
    add("dense_" + std::to_string(size), PositionRange(0, size));
  }
  add("one_row_a_page", Every(128, 127, 900));
  add("first_of_each_page", Every(128, 0, 900));
  add("repeated", {0, 0, 5, 5, 5, 130, 130, 300, 300, 300, 300});
  add("scattered", ScatteredPositions(90, 700));
  add("far", {1, 2, 900, 1'200});
  add("decode_1500", {1'499});
  return cases;
}

// The cases of every form that this one has, and those at the borders of its tiles.
std::vector<AttentionRowsCase> Cases() {
  std::vector<AttentionRowsCase> cases;
  for (const AttentionRowsCase& problem : AttentionRowsCases()) {
    if (problem.head_dim % 64 == 0 && problem.type == KvType::kBf16) cases.push_back(problem);
  }
  for (const auto& [head_dim, num_heads, num_kv_heads] :
       {std::array{64, 9, 3}, {64, 14, 2}, {128, 4, 1}, {128, 2, 2}, {256, 4, 1}, {128, 40, 1}}) {
    for (AttentionRowsCase& problem : TilesOf(head_dim, num_heads, num_kv_heads)) {
      cases.push_back(std::move(problem));
    }
  }
  for (const int32_t head_dim : {64, 128, 256}) {
    const std::string suffix = "_" + std::to_string(head_dim);
    for (const int32_t window : {1, 64, 100, 128, 129}) {
      cases.push_back({.name = "window_" + std::to_string(window) + suffix,
                       .num_heads = 4,
                       .num_kv_heads = 2,
                       .head_dim = head_dim,
                       .positions = ScatteredPositions(150, 600),
                       .window = window});
    }
    // Few tiles that see much, cut on the device by what each sees: on one of three
    // multiprocessors, as emulated, and on one of 132.
    for (const auto& [num_rows, num_heads, num_kv_heads] :
         {std::array{40, 8, 2}, {140, 14, 14}, {head_dim == 128 ? 140 : 1, 28, 7}}) {
      cases.push_back({.name = "shared_" + std::to_string(num_heads) + suffix,
                       .num_heads = num_heads,
                       .num_kv_heads = num_kv_heads,
                       .head_dim = head_dim,
                       .positions = ScatteredPositions(num_rows, 1'400)});
    }
    cases.push_back({.name = "softcap" + suffix,
                     .num_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = head_dim,
                     .positions = ScatteredPositions(80, 300),
                     .window = 90,
                     .logit_softcap = 20.0F,
                     .q_scale = 6.0F});
    cases.push_back({.name = "large_scores" + suffix,
                     .num_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = head_dim,
                     .positions = ScatteredPositions(80, 300),
                     .q_scale = 30.0F});
  }
  return cases;
}

class AttentionRowsCudaTest : public DeviceTest,
                              public ::testing::WithParamInterface<AttentionRowsCase> {};

TEST_P(AttentionRowsCudaTest, AgreesWithTheReferenceAndStaysInBounds) {
  const AttentionRowsDeviceData data(GetParam());
  const Status status = RunOnDevice(data.Params());
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<float> actual = data.Output();
  EXPECT_TRUE(data.GuardsAreIntact());
  if (GetParam().q_scale > 1e3F) {
    for (const float x : actual) ASSERT_LT(std::fabs(x), 10.0F);
    return;
  }
  AttentionRowsCase problem = GetParam();
  problem.type = KvType::kBf16;
  EXPECT_TRUE(ArraysAgree(actual, data.expected(), AttentionTolerance(problem)));
}

TEST_P(AttentionRowsCudaTest, TwoRunsAreBitwiseEqual) {
  const AttentionRowsDeviceData data(GetParam());
  ASSERT_TRUE(RunOnDevice(data.Params()).ok());
  const std::vector<float> first = data.Output();
  const std::vector<float> first_lse = data.LogSumExps();
  ASSERT_TRUE(RunOnDevice(data.Params()).ok());
  EXPECT_EQ(data.Output(), first);
  EXPECT_EQ(data.LogSumExps(), first_lse);
}

std::string NameOf(const ::testing::TestParamInfo<AttentionRowsCase>& problem) {
  return problem.param.name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionRowsCudaTest, ::testing::ValuesIn(Cases()), NameOf);

using AttentionRowsCudaContractTest = DeviceTest;

// With keys that are all 0 every visible key has the score 0.
TEST_F(AttentionRowsCudaContractTest, TheLogSumExpCountsVisibleKeysOfEqualScores) {
  for (const int32_t window : {0, 50}) {
    for (const int64_t num_rows : {1, 4, 100}) {
      const AttentionRowsCase problem{.name = "lse",
                                      .num_heads = 6,
                                      .num_kv_heads = 3,
                                      .head_dim = 64,
                                      .positions = ScatteredPositions(num_rows, 2'000),
                                      .window = window};
      const AttentionRowsDeviceData data(problem);
      AttentionRowsCudaParams params = data.Params();
      const int64_t size = params.layer.num_pages * PageElements(3, 64);
      const DeviceArray<uint16_t> zeros(std::vector<uint16_t>(static_cast<size_t>(size), 0));
      params.layer.k_pages = zeros.data();
      ASSERT_TRUE(RunOnDevice(params).ok());
      const std::vector<float> lse = data.LogSumExps();
      for (size_t i = 0; i < lse.size(); ++i) {
        const int32_t visible = problem.positions[i / 6] + 1;
        const int32_t num_keys = window > 0 ? std::min(window, visible) : visible;
        EXPECT_NEAR(lse[i], std::log(static_cast<float>(num_keys)), 1e-4F) << i;
      }
    }
  }
}

TEST_F(AttentionRowsCudaContractTest, EachRowOfABatchReadsItsOwnPages) {
  for (const int32_t head_dim : {64, 128, 256}) {
    for (const int32_t num_heads : {2, 14, 40}) {
      std::vector<AttentionRowsCase> requests;
      for (const int32_t position : {700, 0, 127, 128, 1'400, 63}) {
        requests.push_back({.name = "request",
                            .num_heads = num_heads,
                            .num_kv_heads = 2,
                            .head_dim = head_dim,
                            .positions = {position},
                            .type = KvType::kBf16});
      }
      const AttentionRowsDeviceData data(requests);
      ASSERT_TRUE(RunOnDevice(data.Params()).ok());
      EXPECT_TRUE(ArraysAgree(data.Output(), data.expected(), AttentionTolerance(requests[0])));
      EXPECT_TRUE(data.GuardsAreIntact());
    }
  }
}

TEST_F(AttentionRowsCudaContractTest, ANanQuerySpoilsItsOwnHeadOfItsOwnRow) {
  for (const auto& positions : {std::vector<int32_t>{1, 4, 90, 400}, PositionRange(0, 200)}) {
    AttentionRowsCase problem{.name = "nan",
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 128,
                              .positions = positions,
                              .type = KvType::kBf16};
    AttentionRowsDeviceData data(problem);
    const AttentionRowsCudaParams params = data.Params();
    ASSERT_TRUE(RunOnDevice(params).ok());
    const std::vector<float> expected = data.Output();
    const size_t spoilt = 2 * 4 + 1;
    data.WriteQuery(spoilt * 128 + 5, AttentionRowsPages::kNanBits);
    ASSERT_TRUE(RunOnDevice(params).ok());
    const std::vector<float> actual = data.Output();
    for (size_t i = 0; i < actual.size(); ++i) {
      if (i / 128 == spoilt) {
        EXPECT_TRUE(std::isnan(actual[i])) << i;
      } else {
        ASSERT_EQ(actual[i], expected[i]) << i;
      }
    }
  }
}

TEST_F(AttentionRowsCudaContractTest, BadParamsAreRefused) {
  const AttentionRowsDeviceData data({.name = "bad",
                                      .num_heads = 4,
                                      .num_kv_heads = 2,
                                      .head_dim = 64,
                                      .positions = {1, 2'000},
                                      .type = KvType::kBf16});
  using Change = std::function<void(AttentionRowsCudaParams&)>;
  const std::vector<Change> invalid = {
      [](AttentionRowsCudaParams& params) { params.layer.k_pages = nullptr; },
      [](AttentionRowsCudaParams& params) { params.layer.page_table = nullptr; },
      [](AttentionRowsCudaParams& params) { params.layer.num_kv_heads = 0; },
      [](AttentionRowsCudaParams& params) { params.q = nullptr; },
      [](AttentionRowsCudaParams& params) { params.q += 1; },
      [](AttentionRowsCudaParams& params) { params.positions = nullptr; },
      [](AttentionRowsCudaParams& params) { params.output = nullptr; },
      [](AttentionRowsCudaParams& params) { params.num_rows = -1; },
      [](AttentionRowsCudaParams& params) { params.num_rows = int64_t{1} << 40; },
      [](AttentionRowsCudaParams& params) { params.max_position = params.layer.num_tokens; },
      [](AttentionRowsCudaParams& params) { params.max_position = -1; },
      [](AttentionRowsCudaParams& params) { params.num_heads = 3; },
      [](AttentionRowsCudaParams& params) { params.scale = std::nanf(""); },
      [](AttentionRowsCudaParams& params) { params.scale = 0.0F; },
      [](AttentionRowsCudaParams& params) { params.window = -1; },
      [](AttentionRowsCudaParams& params) { params.logit_softcap = -1.0F; },
      [](AttentionRowsCudaParams& params) { params.page_table_stride = -1; },
      [](AttentionRowsCudaParams& params) { params.workspace_bytes -= 1; },
      [](AttentionRowsCudaParams& params) { params.workspace = nullptr; },
  };
  for (size_t i = 0; i < invalid.size(); ++i) {
    AttentionRowsCudaParams params = data.Params();
    invalid[i](params);
    EXPECT_EQ(RunOnDevice(params).code(), StatusCode::kInvalidArgument) << "change " << i;
  }
  AttentionRowsCudaParams params = data.Params();
  params.layer.head_dim = 96;
  EXPECT_EQ(RunOnDevice(params).code(), StatusCode::kUnsupported);
  EXPECT_TRUE(
      RunOnDevice({.layer = {.num_kv_heads = 1, .head_dim = 64}, .num_heads = 1, .scale = 1.0F})
          .ok());
}

}  // namespace
}  // namespace intarsia::kernels
