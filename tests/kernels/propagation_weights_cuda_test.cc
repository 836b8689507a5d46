#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "kernels/propagation_weights.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/propagation_cases.h"

namespace intarsia::kernels {
namespace {

class PropagationWeightsCudaTest : public DeviceTest {};

// Weights are of order 0.01 to 1, solved in f32 and rounded to bf16.
constexpr Tolerance kTolerance = {.absolute = 2e-4, .relative = 0x1p-7, .nmse = 1e-5};

std::vector<float> Widen(const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), values.data());
  return values;
}

TEST_F(PropagationWeightsCudaTest, AgreesWithTheReferenceInBothOrders) {
  for (const PropagationCase& test_case : PropagationCases()) {
    if (test_case.num_tokens() > TestSizeMax()) continue;
    for (const PropagationOrder order : {PropagationOrder::kTwoSided, PropagationOrder::kCausal}) {
      SCOPED_TRACE(test_case.name + (order == PropagationOrder::kCausal ? " causal" : ""));
      const PropagationData data(test_case);
      const SolvedWeights expected = SolveByReference(data, order);
      const DeviceArray<PropagationChunk> chunks(data.layout.chunks);
      const DeviceArray<PropagationTile> tiles(data.layout.tiles);
      const DeviceArray<int32_t> rows(data.rows);
      const std::vector<uint16_t> poison(expected.key_weights.size(), 0x7fc1);
      const DeviceArray<uint16_t> key_weights(poison);
      const DeviceArray<uint16_t> value_weights(poison);
      const DeviceArray<float> key_u(std::vector<float>(data.rows.size()));
      const DeviceArray<float> value_u(std::vector<float>(data.rows.size()));
      const DeviceArray<uint8_t> workspace(
          std::vector<uint8_t>(static_cast<size_t>(PropagationWorkspaceBytes(data.layout)), 0xff));
      PropagationWeightsParams params = data.Params(order);
      params.chunks = chunks.data();
      params.tiles = tiles.data();
      params.rows = rows.data();
      params.key_weights = key_weights.data();
      params.value_weights = value_weights.data();
      params.key_u = key_u.data();
      params.value_u = value_u.data();
      params.workspace = reinterpret_cast<float*>(workspace.data());
      ASSERT_TRUE(PropagationWeightsCuda(params, nullptr).ok());
      const std::vector<uint16_t> weights = key_weights.CopyToHost();
      EXPECT_TRUE(ArraysAgree(Widen(weights), Widen(expected.key_weights), kTolerance));
      EXPECT_TRUE(ArraysAgree(Widen(value_weights.CopyToHost()), Widen(expected.value_weights),
                              kTolerance));
      EXPECT_TRUE(ArraysAgree(key_u.CopyToHost(), expected.key_u,
                              {.absolute = 1e-3, .relative = 1e-3, .nmse = 1e-5}));
      EXPECT_TRUE(ArraysAgree(value_u.CopyToHost(), expected.value_u,
                              {.absolute = 1e-3, .relative = 1e-3, .nmse = 1e-5}));
      EXPECT_TRUE(key_weights.GuardsAreIntact() && value_weights.GuardsAreIntact() &&
                  key_u.GuardsAreIntact() && value_u.GuardsAreIntact() &&
                  workspace.GuardsAreIntact());
      ASSERT_TRUE(PropagationWeightsCuda(params, nullptr).ok());
      EXPECT_EQ(key_weights.CopyToHost(), weights);
    }
  }
}

TEST_F(PropagationWeightsCudaTest, BadParamsAreRefusedBeforeALaunch) {
  PropagationWeightsParams params;
  EXPECT_TRUE(PropagationWeightsCuda(params, nullptr).ok());
  params.num_chunks = 1;
  EXPECT_EQ(PropagationWeightsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params.num_chunks = -1;
  EXPECT_EQ(PropagationWeightsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
