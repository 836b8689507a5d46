// SampleRows: the next token from each row of logits.
//
// A temperature of 0 takes the largest logit, the first of equals. Otherwise the logits are divided
// by the temperature, cut to the top_k most likely tokens, then to the most likely ones that
// together reach top_p, and one is drawn. Probabilities are counted in 2^-40ths of the largest, so
// that their sums do not depend on an order and equal inputs give equal tokens.
//
// The draw is a function of seed and step alone, and all of it is integers and operations that IEEE
// 754 defines to the bit: equal logits give equal tokens on the host and on a device.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// How one row is sampled.
struct SampleRule {
  float temperature = 0.0F;  // 0: greedy
  int32_t top_k = 0;         // 0: all
  float top_p = 1.0F;        // in (0, 1]
  uint64_t seed = 0;
  bool operator==(const SampleRule&) const = default;
};

// Pointers are device pointers for the CUDA form and host pointers for the others.
struct SampleRowsParams {
  const float* logits = nullptr;      // [num_rows, vocab_size], rows `stride` elements apart
  int64_t stride = 0;                 // >= vocab_size
  const SampleRule* rules = nullptr;  // [num_rows]
  const int32_t* steps = nullptr;     // [num_rows]: the draw's number, for example the position
  int32_t* tokens = nullptr;          // [num_rows]; -1 for a row without a finite logit
  // Receives steps[row] + 1, for a loop that stays on the device; may be `steps`, may be null.
  int32_t* next_steps = nullptr;  // [num_rows]
  int64_t num_rows = 0;           // 0 does nothing; at most 65,535
  int64_t vocab_size = 0;
};

// A logit that is NaN counts as -infinity; one that is +infinity wins. The values of the rules are
// the caller's promise. Errors: kInvalidArgument for a null pointer or a size out of range.
Status SampleRows(const SampleRowsParams& params);

// The same, enqueued on `stream`, without waiting. Errors: also kInternal if the launch fails.
Status SampleRowsCuda(const SampleRowsParams& params, Stream stream);

// The definition: one thread, by sorting.
Status SampleRowsReference(const SampleRowsParams& params);

// The errors of all forms.
Status CheckSampleRows(const SampleRowsParams& params);

// What the forms on the host share: checks, and gives each row its token and its next step.
// Errors: those of SampleRows.
using SampleRowFunction = int32_t(const float* logits, int64_t vocab_size, const SampleRule& rule,
                                  int32_t step);
Status SampleEachRow(const SampleRowsParams& params, SampleRowFunction* sample_row);

// Errors: kInvalidArgument for a temperature below 0 or above 10, a top_k below 0, or a top_p
// outside (0, 1].
Status CheckSampleRule(const SampleRule& rule);

}  // namespace intarsia::kernels
