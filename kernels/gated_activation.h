// GatedActivation: activation(gate) * up of rows that hold both side by side, in bf16.
//
// The form between the two products of a feed-forward block on a device (on the CPU:
// kernels/activation.h, which defines the activations).
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/activation.h"
#include "kernels/e4m3.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Dense and row-major. Pointers are device pointers for the CUDA form and host pointers for the
// reference, 16-byte aligned; bf16 is held as bits.
struct GatedActivationParams {
  Activation kind = Activation::kSilu;
  const uint16_t* gate_up = nullptr;  // [num_rows, 2 * dim]: gate, up
  uint16_t* y = nullptr;              // [num_rows, dim], not overlapping gate_up; or, with y null:
  Fp8Target y_fp8 = {};               // what QuantizeRows makes of y; overlaps nothing
  int64_t num_rows = 0;               // 0 does nothing
  int64_t dim = 0;                    // a multiple of 8; for y_fp8 at most kFp8DimMax
};

// Enqueues the work on `stream` and returns without waiting. Computes in f32 and rounds once, to
// nearest even. Limits and NaN are those of kernels/activation.h.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for an unknown kind or a `dim` that is no multiple of 8; kInternal if the launch fails.
Status GatedActivationCuda(const GatedActivationParams& params, Stream stream);

// The definition: one thread, in double.
Status GatedActivationReference(const GatedActivationParams& params);

// The errors of both forms.
Status CheckGatedActivation(const GatedActivationParams& params);

}  // namespace intarsia::kernels
