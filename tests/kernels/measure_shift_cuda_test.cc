#include <memory>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/measure_shift.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/place_kv_cases.h"
#include "tests/kernels/place_kv_host_data.h"
#include "tests/kernels/propagation_cases.h"

namespace intarsia::kernels {
namespace {

class MeasureShiftCudaTest : public DeviceTest {};

constexpr Tolerance kTolerance = {.absolute = 1e-2, .relative = 0x1p-7, .nmse = 1e-5};

std::vector<float> Widen(const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), values.data());
  return values;
}

struct Deltas {
  std::vector<uint16_t> key;
  std::vector<uint16_t> value;
};

// A pass of rows in which every other row is a recomputed one. Each third row comes from an earlier
// pass, whose differences lie in the opposite order.
class MeasureShiftData {
 public:
  MeasureShiftData(KvPayloadType type, int32_t width, const PropagationCase& test_case)
      : propagation_(test_case),
        placed_({.type = type,
                 .num_kv_heads = 1,
                 .head_dim = width,
                 .rotary_dim = width,
                 .chunk_tokens = test_case.chunk_tokens}),
        width_(width) {
    pass_rows_.resize(propagation_.rows.size());
    const size_t num_rows_in_all = pass_rows_.size();
    for (size_t i = 0; i < num_rows_in_all; ++i) {
      pass_rows_[i] = static_cast<int32_t>(i % 3 == 1 ? ~(num_rows_in_all - i) : 2 * i + 1);
    }
    known_ = PlaceKvData::Narrow(
        RandomFloats(2 * static_cast<int64_t>(num_rows_in_all + 1) * width, 34));
    stride_ = 2 * int64_t{width} + 16;
    computed_ = PlaceKvData::Narrow(
        RandomFloats(2 * static_cast<int64_t>(pass_rows_.size()) * stride_, 31));
    const auto num_rows = static_cast<int64_t>(pass_rows_.size());
    key_u_ = RandomFloats(num_rows, 32, 0.1f);
    value_u_ = RandomFloats(num_rows, 33, 0.1f);
  }

  int64_t num_deltas() const {
    return (propagation_.layout.num_rows + std::ssize(propagation_.layout.chunks)) * width_;
  }

  MeasureShiftParams Params(PropagationOrder order) const {
    MeasureShiftParams params;
    params.k_stride = params.v_stride = stride_;
    params.order = order;
    params.num_chunks = static_cast<int32_t>(propagation_.layout.chunks.size());
    params.width = width_;
    return params;
  }

  Deltas ByReference(PropagationOrder order) const {
    std::vector<const uint8_t*> payloads;
    for (const auto& payload : placed_.payloads) payloads.push_back(payload.data());
    Deltas deltas;
    deltas.key.resize(static_cast<size_t>(num_deltas()));
    deltas.value.resize(deltas.key.size());
    float workspace = 0.0f;
    MeasureShiftParams params = Params(order);
    params.chunks = propagation_.layout.chunks.data();
    params.segments = placed_.segments.data();
    params.payloads = payloads.data();
    params.rows = propagation_.rows.data();
    params.pass_rows = pass_rows_.data();
    params.k = computed_.data();
    params.v = computed_.data() + width_;
    params.known_key_deltas = known_.data();
    params.known_value_deltas = known_.data() + known_.size() / 2;
    params.key_u = key_u_.data();
    params.value_u = value_u_.data();
    params.key_deltas = deltas.key.data();
    params.value_deltas = deltas.value.data();
    params.workspace = &workspace;
    INTARSIA_CHECK(MeasureShiftReference(params).ok());
    return deltas;
  }

  void ExpectTheDeviceAgrees(PropagationOrder order) const {
    std::vector<std::unique_ptr<DeviceArray<uint8_t>>> copies;
    std::vector<const uint8_t*> pointers;
    for (const auto& payload : placed_.payloads) {
      copies.push_back(std::make_unique<DeviceArray<uint8_t>>(payload));
      pointers.push_back(copies.back()->data());
    }
    const DeviceArray<const uint8_t*> payloads(pointers);
    const DeviceArray<PropagationChunk> chunks(propagation_.layout.chunks);
    const DeviceArray<PlacedSegment> segments(placed_.segments);
    const DeviceArray<int32_t> rows(propagation_.rows);
    const DeviceArray<int32_t> pass_rows(pass_rows_);
    const DeviceArray<uint16_t> computed(computed_);
    const DeviceArray<uint16_t> known(known_);
    const DeviceArray<float> key_u(key_u_);
    const DeviceArray<float> value_u(value_u_);
    const std::vector<uint16_t> poison(static_cast<size_t>(num_deltas()), 0x7fc1);
    const DeviceArray<uint16_t> key_deltas(poison);
    const DeviceArray<uint16_t> value_deltas(poison);
    MeasureShiftParams params = Params(order);
    const DeviceArray<float> workspace(std::vector<float>(
        static_cast<size_t>(MeasureShiftWorkspaceBytes(params.num_chunks, width_)) / 4));
    params.chunks = chunks.data();
    params.segments = segments.data();
    params.payloads = payloads.data();
    params.rows = rows.data();
    params.pass_rows = pass_rows.data();
    params.k = computed.data();
    params.v = computed.data() + width_;
    params.known_key_deltas = known.data();
    params.known_value_deltas = known.data() + known_.size() / 2;
    params.key_u = key_u.data();
    params.value_u = value_u.data();
    params.key_deltas = key_deltas.data();
    params.value_deltas = value_deltas.data();
    params.workspace = workspace.data();
    const Deltas expected = ByReference(order);
    ASSERT_TRUE(MeasureShiftCuda(params, nullptr).ok());
    EXPECT_TRUE(ArraysAgree(Widen(key_deltas.CopyToHost()), Widen(expected.key), kTolerance));
    EXPECT_TRUE(ArraysAgree(Widen(value_deltas.CopyToHost()), Widen(expected.value), kTolerance));
    EXPECT_TRUE(key_deltas.GuardsAreIntact() && value_deltas.GuardsAreIntact() &&
                workspace.GuardsAreIntact());
    const std::vector<uint16_t> once = key_deltas.CopyToHost();
    ASSERT_TRUE(MeasureShiftCuda(params, nullptr).ok());
    EXPECT_EQ(key_deltas.CopyToHost(), once);
  }

 private:
  const PropagationData propagation_;
  const PlaceKvData placed_;
  const int32_t width_;
  int64_t stride_ = 0;
  std::vector<int32_t> pass_rows_;
  std::vector<uint16_t> computed_;
  std::vector<uint16_t> known_;
  std::vector<float> key_u_;
  std::vector<float> value_u_;
};

TEST_F(MeasureShiftCudaTest, AgreesWithTheReferenceForEveryPayload) {
  for (const KvPayloadType type :
       {KvPayloadType::kBf16, KvPayloadType::kF32, KvPayloadType::kInt8, KvPayloadType::kInt4}) {
    for (const int32_t width : {32, 224}) {
      for (const PropagationCase& test_case : PropagationCases()) {
        for (const auto order : {PropagationOrder::kTwoSided, PropagationOrder::kCausal}) {
          SCOPED_TRACE(test_case.name + " width " + std::to_string(width) + " type " +
                       std::to_string(static_cast<int>(type)) +
                       (order == PropagationOrder::kCausal ? " causal" : ""));
          MeasureShiftData(type, width, test_case).ExpectTheDeviceAgrees(order);
        }
      }
    }
  }
}

TEST_F(MeasureShiftCudaTest, BadParamsAreRefusedBeforeALaunch) {
  MeasureShiftParams params;
  EXPECT_TRUE(MeasureShiftCuda(params, nullptr).ok());
  params.num_chunks = 1;
  EXPECT_EQ(MeasureShiftCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
