// ResidualNorm: adds a block's output to the residual stream and normalises the sum for the next
// product, in one pass over the rows.
//
//   hidden += addend                                   (or, with addend_weight, Gemma's way:
//   hidden += rms_norm(addend) * addend_weight)
//   y = rms_norm(hidden) * weight,  rms_norm(x) = x / sqrt(mean(x^2) + epsilon)
//
// The residual stream stays in f32, because it is what all layers add to; what goes into and comes
// out of a matrix product is bf16. (On the CPU, kernels/rms_norm.h does the same on f32 arrays.)
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/e4m3.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Dense and row-major. Pointers are device pointers for the CUDA form and host pointers for the
// reference, each 16-byte aligned; bf16 is held as bits.
struct ResidualNormParams {
  float* hidden = nullptr;               // [num_rows, dim], read and, with an addend, written
  const uint16_t* addend = nullptr;      // [num_rows, dim] bf16; may be null
  const float* addend_weight = nullptr;  // [dim]; null: the addend is added as it is
  const float* weight = nullptr;         // [dim]
  uint16_t* y = nullptr;                 // [num_rows, dim] bf16; may be `addend`. Or, with y null:
  Fp8Target y_fp8 = {};                  // what QuantizeRows makes of y; overlaps nothing
  int64_t num_rows = 0;                  // 0 does nothing
  int64_t dim = 0;                       // a multiple of 8, at most 16,384
  float epsilon = 0.0F;                  // >= 0
};

// Enqueues the work on `stream` and returns without waiting. Squares are summed in f32, in a fixed
// order. A NaN or an infinity stays in its row.
// Errors: kInvalidArgument for a null or misaligned pointer, a size out of range or an epsilon that
// is negative or NaN; kUnsupported for a `dim` that is no multiple of 8 or too large; kInternal if
// the launch fails.
Status ResidualNormCuda(const ResidualNormParams& params, Stream stream);

// The definition: one thread, double accumulation.
Status ResidualNormReference(const ResidualNormParams& params);

// The errors of both forms.
Status CheckResidualNorm(const ResidualNormParams& params);

}  // namespace intarsia::kernels
