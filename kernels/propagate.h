// Propagate: target = cached + weights x deltas, the arithmetic of propagated recompute.
//
// The shift D = new - cached of the recomputed tokens of a chunk is passed on to its other tokens:
//   target[t] = cached[t] + sum over s of weights[t, s] * deltas[s]
// once for K (before rotation) and once for V, per layer. It is a matrix product with a small inner
// dimension (15 % of a chunk), so the conversion of the cache to f32 is folded into it.
//
// Thread safety: may be called concurrently on distinct outputs; one thread each. Callers split a
// prompt by chunk and by runs of tokens.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

// Rows begin `*_stride` elements apart; 0 means no gap. Any alignment. `target` may be `cached`
// itself, with the same stride; else nothing overlaps.
struct PropagateParams {
  // One of the two is set. [num_tokens, width]
  const uint16_t* cached_bf16 = nullptr;
  const float* cached = nullptr;
  int64_t cached_stride = 0;
  const float* weights = nullptr;  // [num_tokens, num_deltas]; may be null if num_deltas is 0
  int64_t weights_stride = 0;
  const float* deltas = nullptr;  // [num_deltas, width]; may be null if num_deltas is 0
  int64_t deltas_stride = 0;
  float* target = nullptr;  // [num_tokens, width]
  int64_t target_stride = 0;
  int64_t num_tokens = 0;  // 0 does nothing
  int64_t num_deltas = 0;  // 0 converts the cache, nothing more
  int64_t width = 0;       // num_kv_heads * head_dim, any
};

// Sums in f32, in the order of s, so that two runs give the same bits. A NaN in a delta reaches the
// targets of its column, also where its weight is 0.
//
// Errors: kInvalidArgument for a null pointer, a negative size or a stride that is too short.
Status Propagate(const PropagateParams& params);

// The errors of both forms.
Status CheckPropagate(const PropagateParams& params);

// The definition: double accumulation.
Status PropagateReference(const PropagateParams& params);

}  // namespace intarsia::kernels
