#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention_rows_cuda.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/attention_rows_device_data.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

constexpr size_t kSpareKeys = 3;  // of `mass`, that no row sees

// Positive weights, every third of them 0.
std::vector<float> WeightsOf(const AttentionRowsCase& problem) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.1F, 1.0F);
  std::vector<float> weights(problem.positions.size());
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = i % 3 == 2 ? 0.0F : uniform(random);
  return weights;
}

std::vector<float> MassBefore(const AttentionRowsCase& problem) {
  return std::vector<float>(static_cast<size_t>(problem.positions.back()) + 1 + kSpareKeys, 0.25F);
}

std::vector<float> Reference(AttentionRowsCase problem) {
  problem.type = KvType::kBf16;
  AttentionRowsData data(problem);
  (void)RoundQueries(problem, &data);
  const std::vector<float> weights = WeightsOf(problem);
  std::vector<float> mass = MassBefore(problem);
  AttentionMassParams params{.rows = data.Params(),
                             .weights = weights.data(),
                             .mass = mass.data(),
                             .num_keys = static_cast<int64_t>(mass.size())};
  EXPECT_TRUE(AttentionMassReference(params).ok());
  return mass;
}

enum class LogSumExps { kFromAttention, kComputedFirst };

// The mass on a device; its params stay valid as long as the object.
class MassOnDevice {
 public:
  MassOnDevice(const AttentionRowsCase& problem, LogSumExps source)
      : rows_(problem), weights_(WeightsOf(problem)), mass_(MassBefore(problem)) {
    params_ = {.rows = rows_.Params(),
               .weights = weights_.data(),
               .mass = mass_.data(),
               .num_keys = static_cast<int64_t>(MassBefore(problem).size())};
    if (source == LogSumExps::kFromAttention) {
      EXPECT_TRUE(AttentionRowsCuda(params_.rows, /*stream=*/nullptr).ok());
      params_.lse = params_.rows.lse;
    }
    const Result<int64_t> workspace_bytes = AttentionMassWorkspaceBytes(params_);
    INTARSIA_CHECK(workspace_bytes.ok());
    workspace_ = std::make_unique<DeviceArray<uint8_t>>(
        std::vector<uint8_t>(static_cast<size_t>(*workspace_bytes), uint8_t{0xff}));
    params_.rows.workspace = workspace_->data();
    params_.rows.workspace_bytes = *workspace_bytes;
  }

  const AttentionMassCudaParams& params() const { return params_; }
  std::vector<float> Mass() const { return mass_.CopyToHost(); }
  // Makes an element of the queries NaN.
  void SpoilQuery(size_t element) { rows_.WriteQuery(element, AttentionRowsPages::kNanBits); }
  bool GuardsAreIntact() const {
    return mass_.GuardsAreIntact() && workspace_->GuardsAreIntact() && rows_.GuardsAreIntact();
  }

 private:
  AttentionRowsDeviceData rows_;
  const DeviceArray<float> weights_;
  const DeviceArray<float> mass_;
  std::unique_ptr<DeviceArray<uint8_t>> workspace_;
  AttentionMassCudaParams params_;
};

std::vector<float> MassOf(const AttentionRowsCase& problem, LogSumExps source) {
  const MassOnDevice mass(problem, source);
  const Status status = AttentionMassCuda(mass.params(), /*stream=*/nullptr);
  EXPECT_TRUE(status.ok()) << status;
  const std::vector<float> result = mass.Mass();
  EXPECT_TRUE(mass.GuardsAreIntact());
  return result;
}

std::vector<AttentionRowsCase> Cases() {
  std::vector<AttentionRowsCase> cases;
  const auto add = [&](const std::string& name, int32_t num_heads, int32_t num_kv_heads,
                       int32_t head_dim, const std::vector<int32_t>& positions) {
    cases.push_back({.name = name + "_" + std::to_string(head_dim),
                     .num_heads = num_heads,
                     .num_kv_heads = num_kv_heads,
                     .head_dim = head_dim,
                     .positions = positions});
  };
  for (const int32_t head_dim : {64, 128, 256}) {
    add("one_key", 2, 1, head_dim, {0});
    add("question", 8, 2, head_dim, PositionRange(600, 664));
    add("odd_group", 9, 3, head_dim, PositionRange(120, 129));
    add("scattered", 14, 2, head_dim, ScatteredPositions(40, 500));
    add("prompt", 4, 1, head_dim, PositionRange(0, 130));
    add("chunks_beyond_keys", 3, 1, head_dim, ScatteredPositions(200, 300));
    add("one_above_a_chunk", 13, 1, head_dim, PositionRange(252, 257));
    cases.push_back({.name = "window_and_softcap_" + std::to_string(head_dim),
                     .num_heads = 4,
                     .num_kv_heads = 2,
                     .head_dim = head_dim,
                     .positions = ScatteredPositions(70, 400),
                     .window = 90,
                     .logit_softcap = 20.0F,
                     .q_scale = 4.0F});
  }
  return cases;
}

class AttentionMassCudaTest : public DeviceTest,
                              public ::testing::WithParamInterface<AttentionRowsCase> {};

TEST_P(AttentionMassCudaTest, AgreesWithTheReferenceAndStaysInBounds) {
  const std::vector<float> expected = Reference(GetParam());
  // Products of bf16 are exact in f32, so scores are off by the order of their sums alone.
  const Tolerance tolerance{.absolute = 2e-4, .relative = 2e-4, .nmse = 1e-8};
  EXPECT_TRUE(ArraysAgree(MassOf(GetParam(), LogSumExps::kFromAttention), expected, tolerance));
  EXPECT_TRUE(ArraysAgree(MassOf(GetParam(), LogSumExps::kComputedFirst), expected, tolerance));
}

TEST_P(AttentionMassCudaTest, TwoRunsAreBitwiseEqual) {
  EXPECT_EQ(MassOf(GetParam(), LogSumExps::kComputedFirst),
            MassOf(GetParam(), LogSumExps::kComputedFirst));
}

std::string NameOf(const ::testing::TestParamInfo<AttentionRowsCase>& problem) {
  return problem.param.name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionMassCudaTest, ::testing::ValuesIn(Cases()), NameOf);

using AttentionMassCudaContractTest = DeviceTest;

TEST_F(AttentionMassCudaContractTest, ANanQueryWithoutWeightAddsNothing) {
  for (const int64_t num_rows : {3, 100}) {
    const AttentionRowsCase problem{.name = "nan",
                                    .num_heads = 4,
                                    .num_kv_heads = 2,
                                    .head_dim = 128,
                                    .positions = ScatteredPositions(num_rows, 500)};
    const std::vector<float> expected = MassOf(problem, LogSumExps::kComputedFirst);
    MassOnDevice mass(problem, LogSumExps::kComputedFirst);
    mass.SpoilQuery((2 * 4 + 1) * 128 + 5);  // The third row has no weight.
    ASSERT_TRUE(AttentionMassCuda(mass.params(), /*stream=*/nullptr).ok());
    EXPECT_EQ(mass.Mass(), expected);
  }
}

TEST_F(AttentionMassCudaContractTest, BadParamsAreRefused) {
  const MassOnDevice mass({.name = "bad", .num_heads = 2, .positions = {3, 700}},
                          LogSumExps::kComputedFirst);
  using Change = void (*)(AttentionMassCudaParams&);
  const Change changes[] = {
      [](AttentionMassCudaParams& params) { params.weights = nullptr; },
      [](AttentionMassCudaParams& params) { params.mass = nullptr; },
      [](AttentionMassCudaParams& params) { params.num_keys = 700; },
      [](AttentionMassCudaParams& params) { params.rows.page_table_stride = 6; },
      [](AttentionMassCudaParams& params) { params.rows.num_rows = kMassRowsMax + 1; },
      [](AttentionMassCudaParams& params) { params.rows.scale = -1.0F; },
      [](AttentionMassCudaParams& params) { params.rows.workspace_bytes -= 1; },
      [](AttentionMassCudaParams& params) { params.rows.workspace = nullptr; },
  };
  for (size_t i = 0; i < std::size(changes); ++i) {
    AttentionMassCudaParams params = mass.params();
    changes[i](params);
    EXPECT_EQ(AttentionMassCuda(params, /*stream=*/nullptr).code(), StatusCode::kInvalidArgument)
        << "change " << i;
  }
  AttentionMassCudaParams nothing = mass.params();
  nothing.rows.num_rows = 0;
  EXPECT_TRUE(AttentionMassCuda(nothing, /*stream=*/nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
