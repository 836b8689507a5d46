#include "engine/fusion/value_deviation.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"

namespace intarsia::engine {
namespace {

using kernels::KvPayloadType;

constexpr int64_t kNumTokens = 7;
constexpr int64_t kWidth = 64;
constexpr int64_t kStride = 3 * kWidth;

std::vector<float> Random(uint32_t seed, int64_t size) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<size_t>(size));
  for (float& number : numbers) number = normal(random);
  return numbers;
}

TEST(ValueDeviationTest, IsTheSquaredDistanceFromWhatWasCached) {
  const std::vector<float> k = Random(1, kNumTokens * kWidth);
  const std::vector<float> v = Random(2, kNumTokens * kWidth);
  std::vector<uint16_t> values(static_cast<size_t>(kNumTokens * kStride));
  kernels::F32ToBf16(Random(3, std::ssize(values)).data(), std::ssize(values), values.data());
  for (const KvPayloadType type :
       {KvPayloadType::kF32, KvPayloadType::kBf16, KvPayloadType::kInt8}) {
    SCOPED_TRACE(static_cast<int>(type));
    std::vector<uint8_t> payload(
        static_cast<size_t>(kernels::KvPayloadBytes(type, kNumTokens, kWidth)));
    ASSERT_TRUE(kernels::EncodeKv({.type = type,
                                   .k = k.data(),
                                   .v = v.data(),
                                   .num_tokens = kNumTokens,
                                   .width = kWidth,
                                   .payload = payload.data(),
                                   .payload_bytes = std::ssize(payload)})
                    .ok());
    std::vector<float> deviation(kNumTokens);
    ValueDeviationParams params = {.type = type,
                                   .payload = payload,
                                   .num_tokens = kNumTokens,
                                   .width = kWidth,
                                   .values = values.data(),
                                   .stride = kStride,
                                   .deviation = deviation.data()};
    ASSERT_TRUE(ValueDeviation(params).ok());
    for (int64_t token = 0; token < kNumTokens; ++token) {
      double sum = 0.0;
      for (int64_t i = 0; i < kWidth; ++i) {
        const auto fresh = values[static_cast<size_t>(token * kStride + i)];
        const double difference =
            double{kernels::Bf16ToF32(fresh)} - double{v[static_cast<size_t>(token * kWidth + i)]};
        sum += difference * difference;
      }
      EXPECT_NEAR(deviation[static_cast<size_t>(token)], sum, 0.03 * sum);
    }
    params.num_tokens = kNumTokens + 1;
    EXPECT_EQ(ValueDeviation(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::engine
