#include "kernels/kv_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"
#include "kernels/half_float.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr KvPayloadType kAllTypes[] = {KvPayloadType::kBf16, KvPayloadType::kF32,
                                       KvPayloadType::kInt8, KvPayloadType::kInt4,
                                       KvPayloadType::kRot4};
constexpr KvPayloadType kQuantized[] = {KvPayloadType::kInt8, KvPayloadType::kInt4};

// Keys and values; some channels of K have a level of their own, as a bias gives them.
struct Numbers {
  Numbers(int64_t tokens, int64_t channels)
      : num_tokens(tokens),
        width(channels),
        k(RandomFloats(tokens * channels, 1)),
        v(RandomFloats(tokens * channels, 2, 0.3F)) {
    for (int64_t i = 0; i < tokens * channels; ++i) {
      if (i % channels % 7 == 3) k[static_cast<size_t>(i)] += 150.0F;
    }
  }

  std::vector<uint8_t> Encode(KvPayloadType type) const {
    std::vector<uint8_t> payload(static_cast<size_t>(KvPayloadBytes(type, num_tokens, width)),
                                 0xab);
    EXPECT_TRUE(EncodeKv(Params(type, &payload)).ok());
    return payload;
  }
  EncodeKvParams Params(KvPayloadType type, std::vector<uint8_t>* payload) const {
    return {.type = type,
            .k = k.data(),
            .v = v.data(),
            .num_tokens = num_tokens,
            .width = width,
            .payload = payload->data(),
            .payload_bytes = std::ssize(*payload)};
  }
  DecodeKvParams Params(KvPayloadType type, const std::vector<uint8_t>& payload, KvHalf half,
                        std::vector<float>* target) const {
    return {.type = type,
            .payload = payload.data(),
            .payload_bytes = std::ssize(payload),
            .num_tokens = num_tokens,
            .width = width,
            .half = half,
            .begin = 0,
            .count = num_tokens,
            .target = target->data()};
  }
  std::vector<float> Decode(KvPayloadType type, const std::vector<uint8_t>& payload,
                            KvHalf half) const {
    std::vector<float> target(k.size());
    EXPECT_TRUE(DecodeKv(Params(type, payload, half, &target)).ok());
    return target;
  }

  int64_t num_tokens;
  int64_t width;
  std::vector<float> k;
  std::vector<float> v;
};

const std::vector<std::pair<int64_t, int64_t>> kSizes = {{1, 1},   {3, 16},    {63, 48}, {64, 64},
                                                         {65, 80}, {130, 192}, {200, 33}};

TEST(KvCodecTest, EveryInstructionSetWritesTheBytesOfTheReference) {
  for (const auto& [num_tokens, width] : kSizes) {
    const Numbers numbers(num_tokens, width);
    for (const KvPayloadType type : kAllTypes) {
      std::vector<uint8_t> wanted(static_cast<size_t>(KvPayloadBytes(type, num_tokens, width)));
      ASSERT_TRUE(EncodeKvReference(numbers.Params(type, &wanted)).ok());
      ForEachTarget([&] { EXPECT_EQ(numbers.Encode(type), wanted) << num_tokens << "x" << width; });
    }
  }
}

TEST(KvCodecTest, EveryRunOfTokensDecodesAsTheReference) {
  for (const auto& [num_tokens, width] : kSizes) {
    const Numbers numbers(num_tokens, width);
    for (const KvPayloadType type : kAllTypes) {
      const std::vector<uint8_t> payload = numbers.Encode(type);
      for (const KvHalf half : {KvHalf::kKey, KvHalf::kValue}) {
        std::vector<float> wanted(numbers.k.size());
        ASSERT_TRUE(DecodeKvReference(numbers.Params(type, payload, half, &wanted)).ok());
        ForEachTarget([&, tokens = num_tokens, channels = width] {
          for (const int64_t begin : {int64_t{0}, tokens / 3, tokens - 1, tokens}) {
            const int64_t count = (tokens - begin + 1) / 2;
            std::vector<float> target(static_cast<size_t>(count * channels + 1), 42.0F);
            DecodeKvParams params = numbers.Params(type, payload, half, &target);
            params.begin = begin;
            params.count = count;
            ASSERT_TRUE(DecodeKv(params).ok());
            for (int64_t i = 0; i < count * channels; ++i) {
              const float want = wanted[static_cast<size_t>(begin * channels + i)];
              // A rotated number is a sum of 64.
              const double error_max = type == KvPayloadType::kRot4 ? 4e-6 : 1e-6;
              ASSERT_NEAR(target[static_cast<size_t>(i)], want, error_max + 2e-7 * std::fabs(want));
            }
            EXPECT_EQ(target.back(), 42.0F) << "wrote beyond the end";
          }
        });
      }
    }
  }
}

TEST(KvCodecTest, NoNumberIsOffByMoreThanHalfAStep) {
  const Numbers numbers(150, 128);
  for (const KvPayloadType type : kQuantized) {
    const std::vector<uint8_t> payload = numbers.Encode(type);
    const double code_max = type == KvPayloadType::kInt8 ? 255 : 15;
    const int64_t group = type == KvPayloadType::kInt8 ? 150 : kKvGroupSize;
    const std::vector<float> k = numbers.Decode(type, payload, KvHalf::kKey);
    for (int64_t token = 0; token < 150; ++token) {
      for (int64_t channel = 0; channel < 128; ++channel) {
        float low = std::numeric_limits<float>::infinity();
        float high = -low;
        const int64_t begin = token / group * group;
        for (int64_t t = begin; t < std::min<int64_t>(150, begin + group); ++t) {
          const float value = numbers.k[static_cast<size_t>(t * 128 + channel)];
          low = std::min(low, value);
          high = std::max(high, value);
        }
        // Rounding the minimum down adds at most an eighth at 150, the step's a thousandth.
        const double step = (high - low + 0.125) / code_max * 1.002;
        const auto index = static_cast<size_t>(token * 128 + channel);
        ASSERT_NEAR(k[index], numbers.k[index], step / 2 + 1e-5);
      }
    }
    const std::vector<float> v = numbers.Decode(type, payload, KvHalf::kValue);
    for (size_t i = 0; i < v.size(); ++i) {
      // Numbers of deviation .3 stay within 1.5.
      ASSERT_NEAR(v[i], numbers.v[i], type == KvPayloadType::kInt8 ? 0.0065 : 0.11);
    }
  }
}

TEST(KvCodecTest, ConstantGroupsComeBackWithThePrecisionOfFp16) {
  for (const float constant : {0.0F, -0.0F, 3.25F, -150.0F, 1e-6F}) {
    Numbers numbers(70, 64);
    std::ranges::fill(numbers.k, constant);
    std::ranges::fill(numbers.v, constant);
    for (const KvPayloadType type :
         {KvPayloadType::kInt8, KvPayloadType::kInt4, KvPayloadType::kRot4}) {
      ForEachTarget([&] {
        const std::vector<uint8_t> payload = numbers.Encode(type);
        EXPECT_TRUE(CheckKvPayload(type, payload.data(), std::ssize(payload), 70, 64).ok());
        for (const KvHalf half : {KvHalf::kKey, KvHalf::kValue}) {
          for (const float value : numbers.Decode(type, payload, half)) {
            ASSERT_NEAR(value, constant, 0x1p-15 + std::fabs(constant) * 0x1p-10);
          }
        }
      });
    }
  }
}

TEST(KvCodecTest, SizesAreThoseOfTheFormat) {
  EXPECT_EQ(KvPayloadBytes(KvPayloadType::kBf16, 384, 192), 2 * 2 * 384 * 192);
  EXPECT_EQ(KvPayloadBytes(KvPayloadType::kF32, 384, 192), 2 * 4 * 384 * 192);
  EXPECT_EQ(KvPayloadBytes(KvPayloadType::kInt8, 384, 192),
            4 * 192 + 384 * 192 + 2 * 3 * 384 + 384 * 192);
  EXPECT_EQ(KvPayloadBytes(KvPayloadType::kInt4, 384, 192),
            6 * 4 * 192 + 384 * 96 + 3 * 4 * 384 + 384 * 96);
  EXPECT_EQ(KvPayloadBytes(KvPayloadType::kRot4, 384, 192), 2 * (2 * 192 + 3 * 2 * 384 + 384 * 96));
  const auto layout = MakeKvPayloadLayout(KvPayloadType::kInt4, 65, 33);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->row_bytes, 32);
  EXPECT_EQ(layout->num_key_groups, 2);
  for (const int64_t offset : {layout->key_codes, layout->value_parameters, layout->value_codes}) {
    EXPECT_EQ(offset % 64, 0);
  }
}

TEST(KvCodecTest, SizesOutOfRangeAreRefused) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const KvPayloadType type : kAllTypes) {
    for (const int64_t bad : {int64_t{-1}, int64_t{0}, (int64_t{1} << 24) + 1, kHuge}) {
      EXPECT_EQ(KvPayloadBytes(type, bad, 64), -1);
      EXPECT_EQ(KvPayloadBytes(type, 64, bad), -1);
    }
    EXPECT_EQ(KvPayloadBytes(type, 1 << 24, 1 << 24), -1);
  }
  EXPECT_EQ(KvPayloadBytes(static_cast<KvPayloadType>(9), 1, 1), -1);
  EXPECT_FALSE(KvPayloadTypeOf(0).has_value());
  EXPECT_FALSE(KvPayloadTypeOf(6).has_value());
  EXPECT_FALSE(KvPayloadTypeOf(259).has_value());
  EXPECT_EQ(KvPayloadTypeOf(3), KvPayloadType::kInt8);
}

TEST(KvCodecTest, WrongParametersAreRefusedAndNothingIsTouched) {
  const Numbers numbers(10, 32);
  for (const KvPayloadType type : kAllTypes) {
    std::vector<uint8_t> payload = numbers.Encode(type);
    std::vector<float> target(numbers.k.size(), 42.0F);
    const DecodeKvParams good = numbers.Params(type, payload, KvHalf::kKey, &target);
    std::vector<DecodeKvParams> bad(7, good);
    bad[0].payload_bytes -= 1;
    bad[1].payload_bytes += 64;
    bad[2].begin = -1;
    bad[3].begin = 5;
    bad[4].count = std::numeric_limits<int64_t>::max();
    bad[5].target = nullptr;
    bad[6].payload = nullptr;
    for (const DecodeKvParams& params : bad) {
      EXPECT_EQ(DecodeKv(params).code(), StatusCode::kInvalidArgument);
      EXPECT_EQ(DecodeKvReference(params).code(), StatusCode::kInvalidArgument);
    }
    EXPECT_EQ(target, std::vector<float>(numbers.k.size(), 42.0F));
    EncodeKvParams wrong = numbers.Params(type, &payload);
    wrong.v = nullptr;
    EXPECT_EQ(EncodeKv(wrong).code(), StatusCode::kInvalidArgument);
    wrong = numbers.Params(type, &payload);
    wrong.payload_bytes -= 1;
    EXPECT_EQ(EncodeKv(wrong).code(), StatusCode::kInvalidArgument);
  }
}

TEST(KvCodecTest, NumbersThatFp16CannotHoldAreRefusedByQuantisedTypesAlone) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 65505.0F,
                          -std::numeric_limits<float>::infinity()}) {
    for (const bool is_key : {true, false}) {
      Numbers numbers(70, 80);
      (is_key ? numbers.k : numbers.v)[69 * 80 + 79] = bad;
      ForEachTarget([&] {
        for (const KvPayloadType type : kAllTypes) {
          std::vector<uint8_t> payload(static_cast<size_t>(KvPayloadBytes(type, 70, 80)));
          const bool is_plain = type == KvPayloadType::kBf16 || type == KvPayloadType::kF32;
          const StatusCode wanted = is_plain ? StatusCode::kOk : StatusCode::kUnsupported;
          EXPECT_EQ(EncodeKv(numbers.Params(type, &payload)).code(), wanted);
          EXPECT_EQ(EncodeKvReference(numbers.Params(type, &payload)).code(), wanted);
        }
      });
    }
  }
}

TEST(KvCodecTest, ParametersThatNoEncoderWritesAreFoundAndDecodeWithoutHarm) {
  const Numbers numbers(70, 80);
  for (const KvPayloadType type : kQuantized) {
    const std::vector<uint8_t> good = numbers.Encode(type);
    const auto check = [&](const std::vector<uint8_t>& payload) {
      return CheckKvPayload(type, payload.data(), std::ssize(payload), 70, 80).code();
    };
    EXPECT_EQ(check(good), StatusCode::kOk);
    const KvPayloadLayout layout = *MakeKvPayloadLayout(type, 70, 80);
    const int64_t key_step = layout.key_parameters + 2 * 80 + 2 * 79;
    const int64_t value_step =
        layout.value_parameters + 2 * 70 * (2 * layout.num_value_parameters - 1) + 2 * 69;
    for (const int64_t offset : {key_step, value_step}) {
      // NaN, infinity, zero, a negative step.
      for (const int half : {0x7e01, 0x7c00, 0x0000, 0x8000, 0xbc00}) {
        const auto bits = static_cast<uint16_t>(half);
        std::vector<uint8_t> payload = good;
        std::memcpy(payload.data() + offset, &bits, 2);
        EXPECT_EQ(check(payload), StatusCode::kCorruption) << half;
        numbers.Decode(type, payload, KvHalf::kKey);
        numbers.Decode(type, payload, KvHalf::kValue);
      }
    }
    std::vector<uint8_t> payload = good;
    const uint16_t infinity = 0xfc00;
    std::memcpy(payload.data() + layout.key_parameters + 2 * 79, &infinity, 2);
    EXPECT_EQ(check(payload), StatusCode::kCorruption);
    payload = good;
    payload.pop_back();
    EXPECT_EQ(check(payload), StatusCode::kInvalidArgument);
    std::ranges::fill(payload = good, 0xff);
    ForEachTarget([&] {
      numbers.Decode(type, payload, KvHalf::kKey);
      numbers.Decode(type, payload, KvHalf::kValue);
    });
  }
}

TEST(HalfFloatTest, RoundingGoesToTheNextHalfOnItsSide) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const auto next = static_cast<uint16_t>(bits + 1);
    const float value = HalfToFloat(half);
    ASSERT_EQ(FloatToHalf(value, HalfRounding::kDown), half);
    ASSERT_EQ(FloatToHalf(value, HalfRounding::kUp), half);
    const float between = (value + HalfToFloat(next)) / 2;
    ASSERT_EQ(FloatToHalf(between, HalfRounding::kDown), half);
    ASSERT_EQ(FloatToHalf(between, HalfRounding::kUp), next);
    ASSERT_EQ(FloatToHalf(-between, HalfRounding::kUp), half | 0x8000);
    ASSERT_EQ(FloatToHalf(-between, HalfRounding::kDown), next | 0x8000);
  }
}

std::string HexOf(const uint8_t* bytes, int64_t count) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    text += {kDigits[bytes[i] >> 4], kDigits[bytes[i] & 15], i + 1 < count ? ' ' : '\n'};
  }
  return text;
}

// The example of the page: two tokens of 32 channels.
TEST(KvCodecTest, TheFormatPageIsTrue) {
  Numbers numbers(2, 32);
  for (int i = 0; i < 64; ++i) {
    numbers.k[static_cast<size_t>(i)] = static_cast<float>(i % 32) + (i < 32 ? 0.0F : 1.5F);
    numbers.v[static_cast<size_t>(i)] = static_cast<float>(i % 16) / 4 - (i < 32 ? 0.0F : 2.0F);
  }
  const auto page = FileSystem::Local()->ReadAll("docs/formats/kv_payload.md", 1 << 20);
  ASSERT_TRUE(page.ok());
  for (const KvPayloadType type :
       {KvPayloadType::kInt8, KvPayloadType::kInt4, KvPayloadType::kRot4}) {
    const std::vector<uint8_t> payload = numbers.Encode(type);
    const KvPayloadLayout layout = *MakeKvPayloadLayout(type, 2, 32);
    std::vector<std::pair<int64_t, int64_t>> parts = {
        {layout.key_parameters, 4 * 32},
        {layout.key_codes, 2 * layout.row_bytes},
        {layout.value_parameters, 2 * 2 * layout.num_value_parameters},
        {layout.value_codes, 2 * layout.row_bytes}};
    if (type == KvPayloadType::kRot4) {
      parts = {{layout.key_parameters, 2 * 32},
               {layout.key_parameters + layout.scale_offset, 2 * 2},
               {layout.key_codes, 2 * layout.row_bytes},
               {layout.value_parameters, 2 * 32},
               {layout.value_parameters + layout.scale_offset, 2 * 2},
               {layout.value_codes, 2 * layout.row_bytes}};
    }
    for (const auto& [offset, count] : parts) {
      for (int64_t begin = 0; begin < count; begin += 16) {
        std::string line = std::to_string(offset + begin);
        line = std::string(5 - std::min<size_t>(5, line.size()), ' ') + line + "  " +
               HexOf(payload.data() + offset + begin, std::min<int64_t>(16, count - begin));
        EXPECT_NE(page->find(line), std::string::npos) << line;
      }
    }
  }
}

}  // namespace
}  // namespace intarsia::kernels
