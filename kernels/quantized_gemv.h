// QuantizedGemv: a few rows times a weight matrix that stays as the model file stores it.
//
// Decoding reads every weight once per token, so its speed is the number of bytes read: the 4 to 8
// bits of the file instead of the 16 of a packed matrix. Weights are dequantised in registers and
// multiplied in f32 with f32 activations, so nothing is rounded.
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/quantized_block.h"

namespace intarsia::kernels {

inline constexpr int64_t kGemvRowsMax = 8;

struct QuantizedGemvParams {
  BlockType type = BlockType::kF32;
  const void* weights = nullptr;  // [num_outputs, num_inputs] in blocks along num_inputs
  int64_t num_outputs = 0;
  int64_t num_inputs = 0;       // a multiple of BlockSize(type)
  const float* x = nullptr;     // [num_rows, num_inputs], 64-byte aligned
  const float* bias = nullptr;  // [num_outputs], may be null
  float* y = nullptr;           // [num_rows, num_outputs]
  int64_t num_rows = 0;         // in [0, kGemvRowsMax]
};

// What every form refuses: kInvalidArgument for a size out of range, a row that is not whole
// blocks, a null pointer.
Status CheckQuantizedGemv(const QuantizedGemvParams& params);

// y = x W^T + bias. Errors: kInvalidArgument. Deterministic for a given number of rows.
Status QuantizedGemv(const QuantizedGemvParams& params, ThreadPool* pool);

// The definition: Dequantize, then double accumulation.
Status QuantizedGemvReference(const QuantizedGemvParams& params);

}  // namespace intarsia::kernels
