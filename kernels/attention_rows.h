// AttentionRows: attention of chosen rows over the placed keys, each row with its own limit.
//
// The one attention of this program: prefill is all rows, decode one, and a fused prefill the rows
// that are recomputed. Row t sits at position p_t and sees key u if and only if
// u <= p_t and u > p_t - window. (A causal mask aligned to the bottom right of gathered rows would
// let recomputed tokens see the future: CacheBlend's and LMCache's published codes do that.)
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/kv_layout.h"

namespace intarsia::kernels {

// Rows are sorted by position, ascending; two rows may share one. Queries are rotated and not yet
// scaled. num_heads is a multiple of num_kv_heads; head h reads kv head h / (num_heads /
// num_kv_heads).
struct AttentionRowsParams {
  KvLayer layer;
  const float* q = nullptr;            // [num_rows, num_heads, head_dim]
  const int32_t* positions = nullptr;  // [num_rows], each in [0, capacity)
  int64_t num_rows = 0;
  int32_t num_heads = 0;
  float scale = 0.0f;  // of the scores, usually 1 / sqrt(head_dim)
  int32_t window = 0;  // 0: no window; else a row sees its last `window` keys, itself included
  float logit_softcap = 0.0f;  // 0: off; else scores become cap * tanh(score / cap)
  float* output = nullptr;     // [num_rows, num_heads, head_dim], not aliasing q
};

// Computes `output`, using the threads of `pool`. Every key in [0, p_t] of the largest position
// must have been stored; keys beyond a row's limit are never read into its result, NaN or not.
//
// Errors: kInvalidArgument for a null pointer, a size out of range or unsorted positions;
// kUnsupported for a head_dim that is not a multiple of 16 or above 256; kResourceExhausted.
Status AttentionRows(const AttentionRowsParams& params, ThreadPool* pool);

// The definition: one thread, double accumulation.
Status AttentionRowsReference(const AttentionRowsParams& params);

// AttentionMass: how much each key is looked at.
//   mass[u] += sum over rows t of weights[t] * (1 / num_heads) * sum over heads of softmax_t(u)
// with the mask, scale, window and softcap of AttentionRows (same params; `output` is ignored).
struct AttentionMassParams {
  AttentionRowsParams rows;
  const float* weights = nullptr;  // [num_rows]; a row of weight 0 costs nothing
  float* mass = nullptr;           // [num_keys], added to
  int64_t num_keys = 0;            // at least the largest position + 1
};

// Keys that no row sees stay as they are. A query of a weighted row that is NaN or infinite may
// spoil all of `mass`. Errors: as AttentionRows, and kInvalidArgument if `num_keys` is too small;
// `mass` is untouched then. Deterministic like AttentionRows.
Status AttentionMass(const AttentionMassParams& params, ThreadPool* pool);
Status AttentionMassReference(const AttentionMassParams& params);

}  // namespace intarsia::kernels
