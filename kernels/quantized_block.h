// BlockType: how model files store weights, and how to read them back as f32.
//
// The quantised types keep blocks of 32 or 256 consecutive weights of a row with shared scales, as
// ggml defines them (ggml-common.h). Dequantisation is exact: the f32 values are those of ggml.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace intarsia::kernels {

enum class BlockType : uint8_t {
  kF32,
  kF16,
  kBf16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K
};

// "F32", "Q4_K", ...
std::string_view BlockTypeName(BlockType type);
// Weights in a block: 1, 32 or 256.
int64_t BlockSize(BlockType type);
// Bytes of a block.
int64_t BlockBytes(BlockType type);
// Bytes of a row of `num_elements`, which must be a multiple of BlockSize; else -1.
int64_t RowBytes(BlockType type, int64_t num_elements);

// Reads `num_elements` weights, a multiple of BlockSize, from `blocks` (any alignment) into
// `target`. Errors: kInvalidArgument for a bad count.
Status Dequantize(BlockType type, const void* blocks, int64_t num_elements, float* target);

}  // namespace intarsia::kernels
