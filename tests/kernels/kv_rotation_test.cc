#include "kernels/kv_rotation.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/kv_codec.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr KvPayloadType kType = KvPayloadType::kRot4;

struct Payload {
  int64_t num_tokens = 0;
  int64_t width = 0;
  std::vector<uint8_t> bytes = {};

  KvPayloadLayout layout() const { return *MakeKvPayloadLayout(kType, num_tokens, width); }
  StatusCode Check() const {
    return CheckKvPayload(kType, bytes.data(), std::ssize(bytes), num_tokens, width).code();
  }
  std::vector<float> Decode(KvHalf half) const {
    std::vector<float> target(static_cast<size_t>(num_tokens * width));
    const Status status = DecodeKv({.type = kType,
                                    .payload = bytes.data(),
                                    .payload_bytes = std::ssize(bytes),
                                    .num_tokens = num_tokens,
                                    .width = width,
                                    .half = half,
                                    .begin = 0,
                                    .count = num_tokens,
                                    .target = target.data()});
    EXPECT_TRUE(status.ok()) << status;
    return target;
  }
};

Status Encode(const std::vector<float>& k, const std::vector<float>& v, int64_t num_tokens,
              int64_t width, Payload* payload) {
  *payload = {.num_tokens = num_tokens, .width = width};
  payload->bytes.resize(static_cast<size_t>(KvPayloadBytes(kType, num_tokens, width)));
  return EncodeKv({.type = kType,
                   .k = k.data(),
                   .v = v.data(),
                   .num_tokens = num_tokens,
                   .width = width,
                   .payload = payload->bytes.data(),
                   .payload_bytes = std::ssize(payload->bytes)});
}

// The error's length over that of the numbers.
double RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0.0;
  double length = 0.0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += (double{got[i]} - wanted[i]) * (double{got[i]} - wanted[i]);
    length += double{wanted[i]} * wanted[i];
  }
  return std::sqrt(error / length);
}

// The best 16 levels leave .0095 of a normal distribution's square.
constexpr double kBestError = 0.0975;

TEST(KvRotationTest, TheErrorIsThatOfTheBestLevelsForANormalDistribution) {
  const std::vector<float> k = RandomFloats(256 * 128, 1);
  const std::vector<float> v = RandomFloats(256 * 128, 2, 0.01F);
  ForEachTarget([&] {
    Payload payload;
    ASSERT_TRUE(Encode(k, v, 256, 128, &payload).ok());
    EXPECT_EQ(payload.Check(), StatusCode::kOk);
    EXPECT_NEAR(RelativeError(payload.Decode(KvHalf::kKey), k), kBestError, 0.01);
    EXPECT_NEAR(RelativeError(payload.Decode(KvHalf::kValue), v), kBestError, 0.01);
  });
}

TEST(KvRotationTest, AChannelWithALevelOfItsOwnCostsTheOthersNothing) {
  const std::vector<float> k = RandomFloats(200 * 64, 1);
  std::vector<float> shifted = k;
  for (size_t i = 0; i < shifted.size(); i += 64) shifted[i + 5] += 160.0F;
  Payload payload;
  ASSERT_TRUE(Encode(shifted, k, 200, 64, &payload).ok());
  std::vector<float> decoded = payload.Decode(KvHalf::kKey);
  for (size_t i = 0; i < decoded.size(); i += 64) decoded[i + 5] -= 160.0F;
  EXPECT_NEAR(RelativeError(decoded, k), kBestError, 0.01);
}

TEST(KvRotationTest, AnOutlierOfATokenIsSpreadOverItsGroup) {
  std::vector<float> v = RandomFloats(64 * 64, 1);
  for (int64_t token = 0; token < 64; ++token) v[static_cast<size_t>(token * 64 + token)] = 8.0F;
  Payload payload;
  ASSERT_TRUE(Encode(v, v, 64, 64, &payload).ok());
  EXPECT_LT(RelativeError(payload.Decode(KvHalf::kValue), v), 0.12);
}

TEST(KvRotationTest, AllInstructionSetsAndTheReferenceWriteTheSameBytes) {
  for (const auto& [num_tokens, width] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {2, 63}, {5, 64}, {3, 65}, {17, 200}}) {
    const std::vector<float> k = RandomFloats(num_tokens * width, 1, 3.0F);
    const std::vector<float> v = RandomFloats(num_tokens * width, 2, 1e-3F);
    Payload wanted = {.num_tokens = num_tokens, .width = width};
    wanted.bytes.resize(static_cast<size_t>(KvPayloadBytes(kType, num_tokens, width)));
    const EncodeKvParams params = {.type = kType,
                                   .k = k.data(),
                                   .v = v.data(),
                                   .num_tokens = num_tokens,
                                   .width = width,
                                   .payload = wanted.bytes.data(),
                                   .payload_bytes = std::ssize(wanted.bytes)};
    ASSERT_TRUE(EncodeKvReference(params).ok());
    ForEachTarget([&, tokens = num_tokens, channels = width] {
      Payload payload;
      ASSERT_TRUE(Encode(k, v, tokens, channels, &payload).ok());
      EXPECT_EQ(payload.bytes, wanted.bytes) << tokens << "x" << channels;
    });
  }
}

TEST(KvRotationTest, OneTokenIsItsOwnCentre) {
  const std::vector<float> k = RandomFloats(192, 1);
  Payload payload;
  ASSERT_TRUE(Encode(k, k, 1, 192, &payload).ok());
  const std::vector<float> decoded = payload.Decode(KvHalf::kKey);
  for (size_t i = 0; i < k.size(); ++i) ASSERT_NEAR(decoded[i], k[i], 1e-3);
}

TEST(KvRotationTest, NumbersAtTheEdgeOfFp16AreKeptOrRefusedButNeverInfinite) {
  for (const float edge : {65504.0F, -65504.0F}) {
    std::vector<float> k(4 * 64, edge);
    Payload payload;
    ASSERT_TRUE(Encode(k, k, 4, 64, &payload).ok());
    for (const float number : payload.Decode(KvHalf::kKey)) ASSERT_NEAR(number, edge, 1.0);
    // The farthest from their centre that numbers can be.
    for (size_t i = 0; i < 64; ++i) k[i] = -edge;
    const Status status = Encode(k, k, 4, 64, &payload);
    if (status.ok()) {
      for (const float number : payload.Decode(KvHalf::kValue)) ASSERT_TRUE(std::isfinite(number));
    } else {
      EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    }
  }
}

TEST(KvRotationTest, ParametersThatNoEncoderWritesAreFound) {
  const std::vector<float> k = RandomFloats(70 * 80, 1);
  Payload good;
  ASSERT_TRUE(Encode(k, k, 70, 80, &good).ok());
  const KvPayloadLayout layout = good.layout();
  const auto check = [&](int64_t offset, uint16_t half) {
    Payload payload = good;
    std::memcpy(payload.bytes.data() + offset, &half, sizeof(half));
    payload.Decode(KvHalf::kKey);
    payload.Decode(KvHalf::kValue);
    return payload.Check();
  };
  for (const int64_t parameters : {layout.key_parameters, layout.value_parameters}) {
    // The last centre: anything finite. The last scale: finite and above 0.
    const int64_t centre = parameters + 2 * 79;
    const int64_t scale = parameters + layout.scale_offset + 2 * (2 * 70 - 1);
    for (const uint16_t half : {uint16_t{0x7e00}, uint16_t{0x7c00}, uint16_t{0xfc00}}) {
      EXPECT_EQ(check(centre, half), StatusCode::kCorruption) << half;
      EXPECT_EQ(check(scale, half), StatusCode::kCorruption) << half;
    }
    for (const uint16_t half : {uint16_t{0x0000}, uint16_t{0x8000}, uint16_t{0xbc00}}) {
      EXPECT_EQ(check(centre, half), StatusCode::kOk) << half;
      EXPECT_EQ(check(scale, half), StatusCode::kCorruption) << half;
    }
  }
}

}  // namespace
}  // namespace intarsia::kernels
