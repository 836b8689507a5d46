// Elementwise: sums and products of arrays that no larger kernel has taken in.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

namespace intarsia::kernels {

// target[i] += addend[i]. The arrays may be the same one; any alignment.
void AddTo(const float* addend, int64_t num_elements, float* target);

// x[i] *= factor.
void Scale(float factor, int64_t num_elements, float* x);

// x[i] = cap * tanh(x[i] / cap), as Gemma bounds its scores. REQUIRES: cap > 0.
// An infinity becomes +-cap, a NaN stays one.
void Softcap(float cap, int64_t num_elements, float* x);

}  // namespace intarsia::kernels
