// PropagationWeights: with which weights the shift of recomputed tokens reaches the others, solved
// on a device.
//
// The shift of a token is the mean of a Gaussian process given the shifts of the recomputed rows;
// engine/fusion/propagation.h derives the formulas. Per chunk of n tokens and m rows, and once for
// K and once for V, with B = the kernel among the rows plus noise = R R^T:
//   weights[t, s] = (R^-T z_t)_s,  weights[t, m] = gamma (1 - y_t . R^-1 1),  y_t = R^-1 k_t
//   two-sided: z_t = y_t;  causal: z_t = y_t + weights[t, m] R^-1 1 for the rows s <= t, else 0,
//              and y_t . R^-1 1 runs over those rows
//   gamma = c0 / (1 + c0 |R^-1 1|^2), summed over all chunks, or the earlier ones and the own rows
//   s <= t in the causal form;  u = B^-1 1
// On the CPU, engine/fusion/propagation.cc solves the same in double with kernels/spd_solve.h.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Whether a token sees all rows or the ones before it.
enum class PropagationOrder : uint8_t { kTwoSided = 0, kCausal = 1 };

// a exp(-d / t1) + b exp(-d / t2) + c within a chunk, plus c0 everywhere. Lengths in tokens.
struct ShiftKernel {
  float a = 0.0f;
  float t1 = 1.0f;
  float b = 0.0f;
  float t2 = 1.0f;
  float c = 0.0f;
  float c0 = 0.0f;
  float noise = 1.0f;  // > 0
};

struct PropagationChunk {
  int32_t segment = 0;  // of a PlaceKv
  int32_t num_tokens = 0;
  int32_t num_rows = 0;        // m, in [0, num_tokens]
  int32_t first_row = 0;       // in the array of rows
  int32_t first_delta = 0;     // first_row + index of the chunk
  int32_t weights_stride = 0;  // m + 1, rounded up to a multiple of 16
  int64_t first_weight = 0;
  int64_t first_factor = 0;  // element of the workspace of one half
};

// Tokens of a chunk that one block weighs: at most kPropagationTileTokens.
inline constexpr int32_t kPropagationTileTokens = 32;
struct PropagationTile {
  int32_t chunk = 0;
  int32_t first = 0;
};

// How the arrays of a request lie.
struct PropagationLayout {
  std::vector<PropagationChunk> chunks;
  std::vector<PropagationTile> tiles;
  int64_t num_weights = 0;  // of one half
  int64_t num_rows = 0;
  int64_t num_factors = 0;  // of one half
  int32_t num_rows_max = 0;
};

// `segments`, `num_tokens` and `num_rows` are [chunks].
// Errors: kInvalidArgument if a chunk has fewer than 1 token, more rows than tokens, or the arrays
// would hold 2^31 rows or more.
Status MakePropagationLayout(std::span<const int32_t> segments, std::span<const int32_t> num_tokens,
                             std::span<const int32_t> num_rows, PropagationLayout* layout);

// All pointers are device pointers for the CUDA form and host pointers for the reference, 16-byte
// aligned.
struct PropagationWeightsParams {
  const PropagationChunk* chunks = nullptr;  // [num_chunks]
  const PropagationTile* tiles = nullptr;    // [num_tiles]
  const int32_t* rows = nullptr;             // [num_rows]: token of its chunk, ascending in each
  ShiftKernel key;
  ShiftKernel value;
  PropagationOrder order = PropagationOrder::kTwoSided;
  uint16_t* key_weights = nullptr;    // [num_weights], bf16; what lies behind m + 1 is set to 0
  uint16_t* value_weights = nullptr;  // [num_weights]
  float* key_u = nullptr;             // [num_rows]
  float* value_u = nullptr;           // [num_rows]
  float* workspace = nullptr;         // PropagationWorkspaceBytes
  int32_t num_chunks = 0;             // 0 does nothing
  int32_t num_tiles = 0;
  int32_t num_rows_max = 0;  // of a chunk
  int64_t num_rows = 0;
  int64_t num_factors = 0;
};

int64_t PropagationWorkspaceBytes(const PropagationLayout& layout);

// Enqueues the work on `stream` and returns without waiting; in f32, in a fixed order. A matrix
// that is not positive definite, which a noise > 0 excludes, gives NaN.
// Errors: kInvalidArgument for a null pointer, a size out of range or a noise that is not positive;
// kInternal if a launch fails.
Status PropagationWeightsCuda(const PropagationWeightsParams& params, Stream stream);

// The definition: one thread, in double, rounded to bf16 last.
// Errors: as PropagationWeightsCuda, and kInvalidArgument for a matrix that is not positive
// definite.
Status PropagationWeightsReference(const PropagationWeightsParams& params);

// The errors of both forms.
Status CheckPropagationWeights(const PropagationWeightsParams& params);

}  // namespace intarsia::kernels
