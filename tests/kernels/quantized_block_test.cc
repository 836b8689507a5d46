#include "kernels/quantized_block.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/file.h"
#include "kernels/half_float.h"
#include "tests/kernels/random_blocks.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kGoldenBytesMax = int64_t{1} << 20;

TEST(QuantizedBlockTest, ValuesAreThoseOfTheGgufPackageBitForBit) {
  // Written by tools/make_quantized_goldens.py.
  const Result<std::string> file =
      FileSystem::Local()->ReadAll("tests/data/quantized_goldens.bin", kGoldenBytesMax);
  ASSERT_TRUE(file.ok()) << file.status();
  ByteReader reader(*file);
  for (const BlockType type : kAllBlockTypes) {
    SCOPED_TRACE(BlockTypeName(type));
    ASSERT_EQ(reader.ReadString(), BlockTypeName(type));
    const std::string_view blocks = reader.ReadString();
    const std::string_view expected = reader.ReadString();
    ASSERT_TRUE(reader.status().ok()) << reader.status();
    const int64_t num_elements =
        static_cast<int64_t>(blocks.size()) / BlockBytes(type) * BlockSize(type);
    ASSERT_EQ(static_cast<size_t>(num_elements) * sizeof(float), expected.size());
    std::vector<float> values(static_cast<size_t>(num_elements));
    ASSERT_TRUE(Dequantize(type, blocks.data(), num_elements, values.data()).ok());
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t want = 0;
      std::memcpy(&want, expected.data() + i * sizeof(want), sizeof(want));
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), want) << "at " << i << ": " << values[i];
    }
  }
  EXPECT_EQ(reader.remaining(), 0);
}

TEST(QuantizedBlockTest, EveryHalfWidensToItsValue) {
  for (uint32_t half = 0; half < 0x10000U; ++half) {
    const float value = HalfToFloat(static_cast<uint16_t>(half));
    const int exponent = static_cast<int>(half >> 10) & 31;
    const auto mantissa = static_cast<float>(half & 0x03FFU);
    if (exponent == 31) {
      ASSERT_TRUE(mantissa == 0.0F ? std::isinf(value) : std::isnan(value)) << half;
    } else {
      const float expected =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024.0F, exponent - 25);
      ASSERT_EQ(std::fabs(value), expected) << half;
    }
    ASSERT_EQ(std::signbit(value), half >= 0x8000U) << half;
  }
}

TEST(QuantizedBlockTest, BytesOfARowAreThoseOfItsBlocks) {
  EXPECT_EQ(RowBytes(BlockType::kF32, 7), 28);
  EXPECT_EQ(RowBytes(BlockType::kBf16, 7), 14);
  EXPECT_EQ(RowBytes(BlockType::kQ4_1, 576), 360);
  EXPECT_EQ(RowBytes(BlockType::kQ6_K, 512), 420);
  EXPECT_EQ(RowBytes(BlockType::kQ6_K, 0), 0);
}

TEST(QuantizedBlockTest, ARowThatIsNotWholeBlocksHasNoSize) {
  EXPECT_EQ(RowBytes(BlockType::kQ8_0, 33), -1);
  EXPECT_EQ(RowBytes(BlockType::kQ4_K, 128), -1);
  EXPECT_EQ(RowBytes(BlockType::kQ4_K, -256), -1);
  EXPECT_EQ(RowBytes(BlockType::kF32, std::numeric_limits<int64_t>::max()), -1);
}

TEST(QuantizedBlockTest, DequantizeRefusesPartOfABlockAndUnknownTypes) {
  const std::string blocks = RandomBlocks(BlockType::kQ4_0, 32, 1.0F, /*seed=*/1);
  std::vector<float> values(32, 5.0F);
  EXPECT_EQ(Dequantize(BlockType::kQ4_0, blocks.data(), 31, values.data()).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Dequantize(BlockType::kQ4_0, blocks.data(), -32, values.data()).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(Dequantize(static_cast<BlockType>(77), blocks.data(), 32, values.data()).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(values[0], 5.0F);
  EXPECT_TRUE(Dequantize(BlockType::kQ4_0, blocks.data(), 0, values.data()).ok());
  EXPECT_EQ(BlockTypeName(static_cast<BlockType>(77)), "unknown");
}

TEST(QuantizedBlockTest, RandomBlocksHaveTheMagnitudeThatTestsAskFor) {
  for (const BlockType type : kAllBlockTypes) {
    const std::string blocks = RandomBlocks(type, 4'096, 2.0F, /*seed=*/3);
    std::vector<float> values(4'096);
    ASSERT_TRUE(Dequantize(type, blocks.data(), 4'096, values.data()).ok());
    double square_sum = 0.0;
    for (const float value : values) square_sum += static_cast<double>(value * value);
    const double deviation = std::sqrt(square_sum / 4'096);
    EXPECT_GT(deviation, 0.5) << BlockTypeName(type);
    EXPECT_LT(deviation, 4.0) << BlockTypeName(type);
  }
}

}  // namespace
}  // namespace intarsia::kernels
