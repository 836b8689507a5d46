// Activation: what stands between the two matrix products of a feed-forward block.
//
//   kSilu      x / (1 + exp(-x))
//   kGeluTanh  x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
//   kGeluErf   x / 2 (1 + erf(x / sqrt(2)))
//
// Gated forms multiply it with a second array: y = activation(gate) * up (SwiGLU, GeGLU). Absolute
// errors are below 1e-6 max(1, |y|) before rounding to bf16. -infinity gives -0 or 0 (the limit)
// unless `up` makes that NaN, +infinity gives itself, NaN stays NaN.
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

enum class Activation : uint8_t { kSilu = 0, kGeluTanh = 1, kGeluErf = 2 };

// Rows begin `*_stride` elements apart; 0 means dim, that is no gap. A product that yields gate and
// up side by side, [num_rows, 2 * dim], is given as gate = p, up = p + dim, both strides 2 * dim.
// Any alignment. `y` may be `x` or `gate` itself, with the same stride.
struct ActivationParams {
  Activation kind = Activation::kSilu;
  const float* x = nullptr;    // [num_rows, dim]: the gate of a gated form
  const float* up = nullptr;   // [num_rows, dim]; null: not gated
  int64_t x_stride = 0;        // of both x and up
  float* y = nullptr;          // [num_rows, dim]; at least one of y and y_bf16 is set
  uint16_t* y_bf16 = nullptr;  // the same in bf16 bits, rounded to nearest even
  int64_t y_stride = 0;        // of both
  int64_t num_rows = 0;        // 0 does nothing
  int64_t dim = 0;
};

// Uses the threads of `pool`, or the calling thread alone if it is null.
// Errors: kInvalidArgument for a null pointer, a dim < 1 or a stride that is too short;
// kUnsupported for an unknown kind.
Status Activate(const ActivationParams& params, ThreadPool* pool);

// The errors of both forms.
Status CheckActivation(const ActivationParams& params);

// The definition: one thread, in double.
Status ActivateReference(const ActivationParams& params);

}  // namespace intarsia::kernels
