// RandomBlocks: weights of any BlockType with values of a chosen magnitude, for tests.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>

#include "base/check.h"
#include "kernels/quantized_block.h"

namespace intarsia::kernels {

inline constexpr BlockType kAllBlockTypes[] = {BlockType::kF32,  BlockType::kF16,  BlockType::kBf16,
                                               BlockType::kQ4_0, BlockType::kQ4_1, BlockType::kQ5_0,
                                               BlockType::kQ5_1, BlockType::kQ8_0, BlockType::kQ4_K,
                                               BlockType::kQ5_K, BlockType::kQ6_K};

// `value` in binary16, rounded towards zero; one too small for a normal number becomes zero.
inline uint16_t TruncateToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const int exponent = static_cast<int>((bits >> 23) & 255U) - 112;
  if (exponent <= 0) return sign;
  INTARSIA_CHECK(exponent < 31);
  return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent) << 10) |
                               ((bits >> 13) & 0x03FFU));
}

// Where a block keeps its f16 scale and minimum, and the value of a weight's code at scale 1.
struct BlockScales {
  int64_t scale_offset;
  int64_t minimum_offset;  // -1: none
  float scale_per_magnitude;
  float minimum_per_magnitude;
};

inline BlockScales BlockScalesOf(BlockType type) {
  switch (type) {
    case BlockType::kQ4_0:
      return {0, -1, 1.0F / 8, 0.0F};
    case BlockType::kQ4_1:
      return {0, 2, 1.0F / 8, -1.0F};
    case BlockType::kQ5_0:
      return {0, -1, 1.0F / 16, 0.0F};
    case BlockType::kQ5_1:
      return {0, 2, 1.0F / 16, -1.0F};
    case BlockType::kQ8_0:
      return {0, -1, 1.0F / 128, 0.0F};
    case BlockType::kQ4_K:
      return {0, 2, 1.0F / 256, 1.0F / 32};
    case BlockType::kQ5_K:
      return {0, 2, 1.0F / 512, 1.0F / 32};
    case BlockType::kQ6_K:
      return {208, -1, 1.0F / 2048, 0.0F};
    default:
      return {-1, -1, 0.0F, 0.0F};
  }
}

// Blocks for `num_elements` weights, roughly in [-magnitude, magnitude], mean near 0. The same
// arguments give the same bytes. REQUIRES: num_elements is a multiple of BlockSize(type).
inline std::string RandomBlocks(BlockType type, int64_t num_elements, float magnitude,
                                uint64_t seed) {
  const int64_t num_bytes = RowBytes(type, num_elements);
  INTARSIA_CHECK(num_bytes >= 0);
  std::mt19937_64 random(seed);
  const auto uniform = [&random] {  // in [-1, 1)
    return static_cast<float>(static_cast<int64_t>(random() >> 40) - (int64_t{1} << 23)) * 0x1p-23F;
  };
  std::string bytes(static_cast<size_t>(num_bytes), '\0');
  const auto put = [&bytes](int64_t offset, auto value) {
    std::memcpy(bytes.data() + offset, &value, sizeof(value));
  };
  const BlockScales scales = BlockScalesOf(type);
  if (scales.scale_offset < 0) {
    for (int64_t i = 0; i < num_elements; ++i) {
      const float value = magnitude * uniform();
      if (type == BlockType::kF32) put(i * 4, value);
      if (type == BlockType::kF16) put(i * 2, TruncateToHalf(value));
      if (type == BlockType::kBf16) {
        put(i * 2, static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
      }
    }
    return bytes;
  }
  for (char& byte : bytes) byte = static_cast<char>(random() >> 56);
  for (int64_t block = 0; block < num_bytes; block += BlockBytes(type)) {
    const float scale = magnitude * (1.0F + 0.5F * uniform());
    put(block + scales.scale_offset, TruncateToHalf(scale * scales.scale_per_magnitude));
    if (scales.minimum_offset < 0) continue;
    put(block + scales.minimum_offset, TruncateToHalf(scale * scales.minimum_per_magnitude));
  }
  return bytes;
}

}  // namespace intarsia::kernels
