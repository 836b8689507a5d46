#include "kernels/quantized_block.h"

#include <cstring>
#include <string>

#include "kernels/half_float.h"

namespace intarsia::kernels {
namespace {

struct BlockTraits {
  std::string_view name;
  int64_t size;   // weights
  int64_t bytes;  // of the block
};

constexpr BlockTraits kTraits[] = {
    {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},     {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},   {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},
    {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
};
constexpr BlockTraits kNoTraits = {"unknown", 1, 0};

const BlockTraits& TraitsOf(BlockType type) {
  const auto index = static_cast<size_t>(type);
  return index < std::size(kTraits) ? kTraits[index] : kNoTraits;
}

uint16_t LoadU16(const uint8_t* bytes) {
  uint16_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

uint32_t LoadU32(const uint8_t* bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* bytes) { return HalfToFloat(LoadU16(bytes)); }

// In each of the functions below a product of a scale and a weight has at most 24 significant bits,
// hence is exact, and at most one addition rounds: the result does not depend on the order that a
// compiler chooses or on whether it fuses.

// {f16 scale; u8 nibbles[16]}: weights 0 to 15 in the low nibbles, 16 to 31 in the high ones.
void DequantizeQ4_0(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 16; ++i) {
    target[i] = scale * static_cast<float>((block[2 + i] & 15) - 8);
    target[16 + i] = scale * static_cast<float>((block[2 + i] >> 4) - 8);
  }
}

// {f16 scale; f16 minimum; u8 nibbles[16]}
void DequantizeQ4_1(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int i = 0; i < 16; ++i) {
    target[i] = scale * static_cast<float>(block[4 + i] & 15) + minimum;
    target[16 + i] = scale * static_cast<float>(block[4 + i] >> 4) + minimum;
  }
}

// {f16 scale; u32 fifth bits; u8 nibbles[16]}: bit i of the u32 belongs to weight i.
void DequantizeQ5_0(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  const uint32_t fifth = LoadU32(block + 2);
  for (int i = 0; i < 16; ++i) {
    const auto low = static_cast<int>(((fifth >> i) & 1U) << 4);
    const auto high = static_cast<int>(((fifth >> (i + 16)) & 1U) << 4);
    target[i] = scale * static_cast<float>(((block[6 + i] & 15) | low) - 16);
    target[16 + i] = scale * static_cast<float>(((block[6 + i] >> 4) | high) - 16);
  }
}

// {f16 scale; f16 minimum; u32 fifth bits; u8 nibbles[16]}
void DequantizeQ5_1(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint32_t fifth = LoadU32(block + 4);
  for (int i = 0; i < 16; ++i) {
    const auto low = static_cast<int>(((fifth >> i) & 1U) << 4);
    const auto high = static_cast<int>(((fifth >> (i + 16)) & 1U) << 4);
    target[i] = scale * static_cast<float>((block[8 + i] & 15) | low) + minimum;
    target[16 + i] = scale * static_cast<float>((block[8 + i] >> 4) | high) + minimum;
  }
}

// {f16 scale; i8 weights[32]}
void DequantizeQ8_0(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 32; ++i) {
    target[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Group `index` of the eight whose 6-bit scales and minima share 12 bytes: the first four in the
// low six bits of bytes 0 to 7, the others in the nibbles of bytes 8 to 11 and the bits left over.
ScaleAndMinimum UnpackGroup(const uint8_t* packed, int index) {
  if (index < 4) return {packed[index] & 63, packed[index + 4] & 63};
  return {(packed[index + 4] & 15) | ((packed[index - 4] >> 6) << 4),
          (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4)};
}

// {f16 scale; f16 minimum; u8 groups[12]; u8 nibbles[128]}: 32 bytes hold two groups of 32 weights,
// the first in the low nibbles.
void DequantizeQ4_K(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum unpacked = UnpackGroup(block + 4, group);
    const float group_scale = scale * static_cast<float>(unpacked.scale);
    const float group_minimum = minimum * static_cast<float>(unpacked.minimum);
    const uint8_t* nibbles = block + 16 + int64_t{group / 2} * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      target[group * 32 + i] =
          group_scale * static_cast<float>((nibbles[i] >> shift) & 15) - group_minimum;
    }
  }
}

// {f16 scale; f16 minimum; u8 groups[12]; u8 fifth bits[32]; u8 nibbles[128]}: bit g of fifth[i]
// belongs to weight i of group g.
void DequantizeQ5_K(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* fifth = block + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum unpacked = UnpackGroup(block + 4, group);
    const float group_scale = scale * static_cast<float>(unpacked.scale);
    const float group_minimum = minimum * static_cast<float>(unpacked.minimum);
    const uint8_t* nibbles = block + 48 + int64_t{group / 2} * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int weight = ((nibbles[i] >> shift) & 15) | (((fifth[i] >> group) & 1) << 4);
      target[group * 32 + i] = group_scale * static_cast<float>(weight) - group_minimum;
    }
  }
}

// {u8 nibbles[128]; u8 upper bits[64]; i8 scales[16]; f16 scale}: each half of 128 weights has 64
// bytes of nibbles and 32 of upper bits; its quarter q of 32 weights takes the nibbles from bytes
// 32 * (q % 2), low ones first, and bits 2q of all the upper bytes. A scale serves 16 weights.
void DequantizeQ6_K(const uint8_t* block, float* target) {
  const float scale = LoadHalf(block + 208);
  for (int64_t group = 0; group < 16; ++group) {
    const float group_scale = scale * static_cast<float>(static_cast<int8_t>(block[192 + group]));
    const int64_t half = group / 8;
    const int64_t quarter = group / 2 % 4;
    const int64_t first = group % 2 * 16;
    const uint8_t* nibbles = block + half * 64 + quarter % 2 * 32 + first;
    const uint8_t* upper = block + 128 + half * 32 + first;
    for (int i = 0; i < 16; ++i) {
      const int weight =
          ((nibbles[i] >> (quarter / 2 * 4)) & 15) | (((upper[i] >> (quarter * 2)) & 3) << 4);
      target[group * 16 + i] = group_scale * static_cast<float>(weight - 32);
    }
  }
}

using DequantizeBlock = void (*)(const uint8_t* block, float* target);

template <DequantizeBlock kDequantize, int64_t kBlockSize, int64_t kBlockBytes>
void DequantizeBlocks(const uint8_t* bytes, int64_t num_elements, float* target) {
  for (int64_t i = 0; i < num_elements / kBlockSize; ++i) {
    kDequantize(bytes + i * kBlockBytes, target + i * kBlockSize);
  }
}

}  // namespace

std::string_view BlockTypeName(BlockType type) { return TraitsOf(type).name; }
int64_t BlockSize(BlockType type) { return TraitsOf(type).size; }
int64_t BlockBytes(BlockType type) { return TraitsOf(type).bytes; }

int64_t RowBytes(BlockType type, int64_t num_elements) {
  const BlockTraits& traits = TraitsOf(type);
  if (num_elements < 0 || num_elements % traits.size != 0) return -1;
  int64_t num_bytes = 0;
  if (__builtin_mul_overflow(num_elements / traits.size, traits.bytes, &num_bytes)) return -1;
  return num_bytes;
}

Status Dequantize(BlockType type, const void* blocks, int64_t num_elements, float* target) {
  const int64_t num_bytes = RowBytes(type, num_elements);
  if (num_bytes < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "not a whole number of blocks: type=" + std::string(BlockTypeName(type)) +
                      " block_size=" + std::to_string(BlockSize(type)) +
                      " num_elements=" + std::to_string(num_elements));
  }
  const auto* bytes = static_cast<const uint8_t*>(blocks);
  switch (type) {
    case BlockType::kF32:
      if (num_bytes > 0) std::memcpy(target, bytes, static_cast<size_t>(num_bytes));
      return Status::Ok();
    case BlockType::kF16:
      for (int64_t i = 0; i < num_elements; ++i) target[i] = LoadHalf(bytes + 2 * i);
      return Status::Ok();
    case BlockType::kBf16:
      for (int64_t i = 0; i < num_elements; ++i) target[i] = Bf16ToFloat(LoadU16(bytes + 2 * i));
      return Status::Ok();
    case BlockType::kQ4_0:
      DequantizeBlocks<DequantizeQ4_0, 32, 18>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ4_1:
      DequantizeBlocks<DequantizeQ4_1, 32, 20>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ5_0:
      DequantizeBlocks<DequantizeQ5_0, 32, 22>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ5_1:
      DequantizeBlocks<DequantizeQ5_1, 32, 24>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ8_0:
      DequantizeBlocks<DequantizeQ8_0, 32, 34>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ4_K:
      DequantizeBlocks<DequantizeQ4_K, 256, 144>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ5_K:
      DequantizeBlocks<DequantizeQ5_K, 256, 176>(bytes, num_elements, target);
      return Status::Ok();
    case BlockType::kQ6_K:
      DequantizeBlocks<DequantizeQ6_K, 256, 210>(bytes, num_elements, target);
      return Status::Ok();
  }
  return Status(StatusCode::kInvalidArgument,
                "unknown block type: " + std::to_string(static_cast<int>(type)));
}

}  // namespace intarsia::kernels
