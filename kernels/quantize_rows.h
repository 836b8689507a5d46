// QuantizeRows: rows of bf16 as e4m3 with a scale a row, for products in fp8.
//
// Weights become e4m3 this way when a model is loaded, with a scale for each output, and rows that
// no other kernel writes (the output of attention). ResidualNorm and GatedActivation do the same
// with their own outputs.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/e4m3.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// The widest row that a kernel quantises.
inline constexpr int64_t kFp8DimMax = 32'768;

// Dense and row-major. Pointers are device pointers for the CUDA form and host pointers for the
// reference, 16-byte aligned; bf16 is held as bits. Nothing overlaps.
struct QuantizeRowsParams {
  const uint16_t* x = nullptr;  // [num_rows, dim] bf16
  Fp8Target y = {};             // codes [num_rows, dim], scales [num_rows]
  int64_t num_rows = 0;         // 0 does nothing
  int64_t dim = 0;              // a multiple of 8, at most kFp8DimMax
};

// Enqueues the work on `stream` and returns without waiting. A row of zeros has codes of zeros and
// a positive scale. A row with a NaN or an infinity has the scale NaN and no other codes than NaN,
// so that all that a product makes of it is NaN.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for a `dim` that is no multiple of 8 or too large; kInternal if the launch fails.
Status QuantizeRowsCuda(const QuantizeRowsParams& params, Stream stream);

// The definition, bit for bit.
Status QuantizeRowsReference(const QuantizeRowsParams& params);

// A row of the definition: `x` [dim] becomes row `row` of `y`.
void QuantizeRow(const uint16_t* x, int64_t row, int64_t dim, const Fp8Target& y);

// The errors of both forms.
Status CheckQuantizeRows(const QuantizeRowsParams& params);

}  // namespace intarsia::kernels
