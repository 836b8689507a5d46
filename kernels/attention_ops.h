// AttentionOps: the vector steps of attention on a tile of queries and a block of keys.
//
// AttentionRows and AttentionMass walk over the keys in plain C++ and leave the arithmetic to these
// functions, which exist once per instruction set. A tile holds the queries of one kv head; all its
// arrays are row-major scratch memory in a core's cache. An operand is what a product takes from
// the query side, a packed query or a probability: bf16 where the CPU multiplies bf16 natively, f32
// elsewhere, where the keys are widened instead.
//
// Scores are in units of log2: p = 2^(score - max).
//
// Thread safety: the table is immutable, and its functions may be called concurrently.
#pragma once

#include <cstdint>

#include "kernels/kv_layout.h"

namespace intarsia::kernels {

// scores[q, u] = dot(queries[q], keys[u])
struct ScoresParams {
  const void* queries = nullptr;  // operands [num_queries, head_dim]
  const void* keys = nullptr;     // K of a kv head, from the first token of a block of 16
  int64_t num_queries = 0;
  int64_t num_keys = 0;  // a multiple of 16
  int64_t head_dim = 0;
  float* scores = nullptr;  // [num_queries, num_keys], rows `scores_stride` floats apart
  int64_t scores_stride = 0;
  int64_t prefetch_keys = 0;  // asks memory for what lies so many keys ahead; 0: nothing
};

// p[q, u] = 2^(scores[q, u] - max[q]), and sum[q] += the sum of p over u, lane by lane.
//
// `max` is a stabiliser rather than the maximum: it moves only when a score exceeds it by 2^8, so
// the sums and outputs of a row are hardly ever rescaled. A score of -infinity gives exactly 0.
struct SoftmaxParams {
  const float* scores = nullptr;  // [num_queries, num_keys]
  int64_t scores_stride = 0;      // in elements, of scores and probabilities
  void* probabilities = nullptr;  // the same shape; f32 may be `scores`
  int64_t num_queries = 0;
  int64_t num_keys = 0;     // a multiple of 16
  float* max = nullptr;     // [num_queries]; -infinity at first
  float* sum = nullptr;     // [num_queries, 16]; 0 at first
  float* output = nullptr;  // [num_queries, head_dim], rescaled like `sum`; may be null
  int64_t head_dim = 0;
};

// output[q] += sum over u of p[q, u] * values[u]
struct ValuesParams {
  const void* probabilities = nullptr;  // operands [num_queries, num_keys]
  int64_t probabilities_stride = 0;     // in elements
  const void* values = nullptr;         // V of a kv head, from an even token
  int64_t num_queries = 0;
  int64_t num_keys = 0;  // no later token is read
  int64_t head_dim = 0;
  float* output = nullptr;    // [num_queries, head_dim]
  int64_t prefetch_keys = 0;  // as in ScoresParams
};

struct AttentionOps {
  int64_t operand_bytes;
  // target[i] = source[i] * factor, as an operand. `num_elements` is a multiple of 16.
  void (*pack)(const float* source, int64_t num_elements, float factor, void* target);
  void (*scores)(const ScoresParams&);
  // x = cap * log2(e) * tanh(x / cap). `num_elements` is a multiple of 16.
  void (*softcap)(float* x, int64_t num_elements, float cap);
  void (*softmax)(const SoftmaxParams&);      // to operands
  void (*softmax_f32)(const SoftmaxParams&);  // to f32, within 1e-6 relative
  void (*values)(const ValuesParams&);
  // The sum of 16 floats.
  float (*sum_lanes)(const float* lanes);
  // target[i] = source[i] * factor. `num_elements` is a multiple of 16.
  void (*scale)(const float* source, float factor, int64_t num_elements, float* target);
  // target[i] += source[i] * factor, likewise.
  void (*add_scaled)(const float* source, float factor, int64_t num_elements, float* target);
};

// The functions for a layer of this type on this CPU.
const AttentionOps& GetAttentionOps(KvType type);

}  // namespace intarsia::kernels
