#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/value_deviation.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/value_deviation_data.h"

namespace intarsia::kernels {
namespace {

class ValueDeviationCudaTest : public DeviceTest {};

constexpr Tolerance kTolerance = {.absolute = 1e-4, .relative = 1e-4, .nmse = 1e-8};

void ExpectTheDeviceAgrees(const ValueDeviationData& data) {
  std::vector<std::unique_ptr<DeviceArray<uint8_t>>> copies;
  std::vector<const uint8_t*> pointers;
  for (const auto& payload : data.placed.payloads) {
    copies.push_back(std::make_unique<DeviceArray<uint8_t>>(payload));
    pointers.push_back(copies.back()->data());
  }
  const DeviceArray<const uint8_t*> payloads(pointers);
  const DeviceArray<PlacedSegment> segments(data.placed.segments);
  const DeviceArray<int32_t> positions(data.positions);
  const DeviceArray<int32_t> row_segments(data.row_segments);
  const DeviceArray<uint16_t> v(data.v);
  const DeviceArray<float> deviation(data.Untouched());
  ValueDeviationParams params = data.Params();
  params.segments = segments.data();
  params.payloads = payloads.data();
  params.positions = positions.data();
  params.row_segments = row_segments.data();
  params.v = v.data();
  params.deviation = deviation.data();
  ASSERT_TRUE(ValueDeviationCuda(params, nullptr).ok());
  const std::vector<float> once = deviation.CopyToHost();
  EXPECT_TRUE(ArraysAgree(once, data.ByReference(), kTolerance));
  EXPECT_TRUE(deviation.GuardsAreIntact());
  ASSERT_TRUE(ValueDeviationCuda(params, nullptr).ok());
  EXPECT_EQ(deviation.CopyToHost(), once);
}

TEST_F(ValueDeviationCudaTest, AgreesWithTheReferenceForEveryPayload) {
  for (const KvPayloadType type :
       {KvPayloadType::kBf16, KvPayloadType::kF32, KvPayloadType::kInt8, KvPayloadType::kInt4}) {
    for (const int32_t width : {32, 96, 224, 1024}) {
      for (const std::vector<int32_t>& chunks :
           std::vector<std::vector<int32_t>>{{1}, {7, 130, 1, 64}, {300, 260}}) {
        SCOPED_TRACE("type " + std::to_string(static_cast<int>(type)) + " width " +
                     std::to_string(width) + " chunks " + std::to_string(chunks.size()));
        ExpectTheDeviceAgrees(ValueDeviationData(type, width, chunks));
      }
    }
  }
}

TEST_F(ValueDeviationCudaTest, BadParamsAreRefusedBeforeALaunch) {
  ValueDeviationParams params;
  EXPECT_TRUE(ValueDeviationCuda(params, nullptr).ok());
  params.num_rows = 1;
  EXPECT_EQ(ValueDeviationCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
