// RmsNorm: y = x / sqrt(mean(x^2) + epsilon) * weight over the last dimension.
//
// The norm of a transformer block takes in the sum of the residual stream that precedes it, and the
// rounding to bf16 of the matrix product that follows. With num_groups > 1 it is the norm of
// queries and keys: each head of a row by itself, all with the same weight. (Gemma's "1 + weight"
// is already in the weight of a GGUF file.)
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

// Rows begin `*_stride` elements apart; 0 means num_groups * dim, that is no gap. Any alignment.
// `sum`, `y` and `addend` may be `x` itself, if their strides are the same; else nothing overlaps.
struct RmsNormParams {
  const float* x = nullptr;  // [num_rows, num_groups, dim]
  int64_t x_stride = 0;
  // Added to x before the norm; may be null. [num_rows, num_groups, dim] without gaps.
  const float* addend = nullptr;
  // Receives x + addend, rows x_stride apart; null if and only if `addend` is.
  float* sum = nullptr;
  const float* weight = nullptr;  // [dim]; null means ones
  // At least one of y and y_bf16 is set. [num_rows, num_groups, dim]
  float* y = nullptr;
  uint16_t* y_bf16 = nullptr;  // bf16 bits
  int64_t y_stride = 0;        // of both
  int64_t num_rows = 0;        // 0 does nothing
  int64_t num_groups = 1;
  int64_t dim = 0;
  float epsilon = 0.0f;  // >= 0
};

// Uses the threads of `pool`, or the calling thread alone if it is null. A NaN or an infinity makes
// its own row (and group) NaN where the formula does, and no other. Squares are summed in f32, so
// elements above 1e18 count as infinite.
//
// Errors: kInvalidArgument for a null pointer, a size < 1, a stride that is too short or an epsilon
// that is negative or NaN.
Status RmsNorm(const RmsNormParams& params, ThreadPool* pool);

// The errors of both forms.
Status CheckRmsNorm(const RmsNormParams& params);

// The definition: one thread, double accumulation.
Status RmsNormReference(const RmsNormParams& params);

}  // namespace intarsia::kernels
