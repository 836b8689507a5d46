// HeadNorm: the norm of queries and keys, each head of a row by itself, in place.
//
// Qwen 3 and Gemma 3 normalise heads between the product and the rotation. Queries and keys lie
// side by side in the product's output, so one launch does both.
//
// Thread safety: all functions may be called concurrently on distinct arrays.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Pointers are device pointers for the CUDA form and host pointers for the reference, 16-byte
// aligned; bf16 is held as bits.
struct HeadNormParams {
  // Rows of num_q_heads heads, then num_k_heads heads, `stride` elements apart.
  uint16_t* heads = nullptr;
  int64_t stride = 0;               // a multiple of 8, >= (num_q_heads + num_k_heads) * head_dim
  const float* q_weight = nullptr;  // [head_dim]
  const float* k_weight = nullptr;  // [head_dim]
  int64_t num_rows = 0;             // 0 does nothing
  int32_t num_q_heads = 0;
  int32_t num_k_heads = 0;
  int32_t head_dim = 0;  // a multiple of 8, at most 256
  float epsilon = 0.0F;  // >= 0
};

// Enqueues the work on `stream` and returns without waiting. A NaN stays in its head.
// Errors: kInvalidArgument for a null or misaligned pointer, a size out of range or an epsilon that
// is negative or NaN; kUnsupported for a head_dim that is no multiple of 8 or too large; kInternal
// if the launch fails.
Status HeadNormCuda(const HeadNormParams& params, Stream stream);

// The definition: one thread, double accumulation.
Status HeadNormReference(const HeadNormParams& params);

// The errors of both forms.
Status CheckHeadNorm(const HeadNormParams& params);

}  // namespace intarsia::kernels
