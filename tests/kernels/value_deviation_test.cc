#include "kernels/value_deviation.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "kernels/kv_codec.h"
#include "tests/kernels/value_deviation_data.h"

namespace intarsia::kernels {
namespace {

TEST(ValueDeviationTest, TheReferenceIsTheSquaredDistanceFromWhatWasCached) {
  for (const KvPayloadType type :
       {KvPayloadType::kF32, KvPayloadType::kBf16, KvPayloadType::kInt8, KvPayloadType::kInt4}) {
    SCOPED_TRACE(static_cast<int>(type));
    const ValueDeviationData data(type, 64, {9, 1, 30});
    const std::vector<float> deviation = data.ByReference();
    std::vector<float> expected = data.Untouched();
    for (size_t row = 0; row < data.positions.size(); ++row) {
      if (data.row_segments[row] < 0) continue;
      const auto index = static_cast<size_t>(data.row_segments[row]);
      const PlacedSegment& segment = data.placed.segments[index];
      std::vector<float> cached(64);
      ASSERT_TRUE(DecodeKv({.type = type,
                            .payload = data.placed.payloads[index].data(),
                            .payload_bytes = KvPayloadBytes(type, segment.num_tokens, 64),
                            .num_tokens = segment.num_tokens,
                            .width = 64,
                            .half = KvHalf::kValue,
                            .begin = data.positions[row] - segment.begin,
                            .count = 1,
                            .target = cached.data()})
                      .ok());
      double sum = 0.0;
      for (size_t i = 0; i < cached.size(); ++i) {
        const double fresh = Bf16ToF32(data.v[row * static_cast<size_t>(data.stride) + i]);
        sum += (fresh - cached[i]) * (fresh - cached[i]);
      }
      expected[static_cast<size_t>(data.positions[row])] = static_cast<float>(sum);
    }
    for (size_t p = 0; p < expected.size(); ++p) {
      EXPECT_NEAR(deviation[p], expected[p], 1e-5 * std::abs(expected[p])) << p;
    }
  }
}

TEST(ValueDeviationTest, BadParamsAreRefused) {
  const ValueDeviationData data(KvPayloadType::kBf16, 64, {9});
  ValueDeviationParams params = data.Params();
  EXPECT_EQ(ValueDeviationReference(params).code(), StatusCode::kInvalidArgument);
  params.num_rows = 0;
  EXPECT_TRUE(ValueDeviationReference(params).ok());
  params.num_rows = -1;
  EXPECT_EQ(ValueDeviationReference(params).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
