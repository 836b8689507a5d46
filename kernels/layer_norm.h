// LayerNorm: y = (x - mean(x)) / sqrt(variance(x) + epsilon) * gain + bias, over rows.
//
// The norm of BERT's blocks, which comes after the residual sum; it takes that sum in, and gives
// its result as f32 (the next residual), as bf16 (the next matrix product), or both.
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

// Any alignment. `y` may be `x` or `addend`; else nothing overlaps.
struct LayerNormParams {
  const float* x = nullptr;       // [num_rows, dim]
  const float* addend = nullptr;  // [num_rows, dim], added to x first; may be null
  const float* gain = nullptr;    // [dim]
  const float* bias = nullptr;    // [dim]
  float* y = nullptr;             // [num_rows, dim]; at least one of y and y_bf16 is set
  uint16_t* y_bf16 = nullptr;     // the same in bf16 bits
  int64_t num_rows = 0;           // 0 does nothing
  int64_t dim = 0;
  float epsilon = 0.0f;  // >= 0
};

// Uses the threads of `pool`, or the calling thread alone if it is null. The variance is that of
// the population, taken around the mean in a second pass. A NaN spoils its own row only.
//
// Errors: kInvalidArgument for a null pointer, a dim < 1 or an epsilon that is negative or NaN.
Status LayerNorm(const LayerNormParams& params, ThreadPool* pool);

// The errors of both forms.
Status CheckLayerNorm(const LayerNormParams& params);

// The definition: one thread, double accumulation.
Status LayerNormReference(const LayerNormParams& params);

}  // namespace intarsia::kernels
