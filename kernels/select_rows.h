// SelectRows: the candidates of highest score, in order, on a device.
//
// Some candidates may be taken already (evenly spaced probes); the others are ranked by score, ties
// going to the lower position, and all that is taken comes out ascending. On the CPU,
// engine/fusion/row_selector.cc does the same.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// All pointers are device pointers for the CUDA form and host pointers for the reference.
struct SelectRowsParams {
  const float* scores = nullptr;        // by position; a NaN ranks below everything
  const int32_t* candidates = nullptr;  // [num_candidates], positions, ascending
  const uint8_t* is_taken = nullptr;    // [num_candidates]: not 0 is taken already; may be null
  int32_t* rows = nullptr;              // [taken + count], ascending
  int32_t num_candidates = 0;
  int32_t count = 0;  // beyond those taken, at most the candidates that are not
};

// Enqueues the work on `stream` and returns without waiting. Deterministic.
// Errors: kInvalidArgument for a null pointer or a count outside [0, num_candidates]; kInternal if
// the launch fails.
Status SelectRowsCuda(const SelectRowsParams& params, Stream stream);

// The definition.
Status SelectRowsReference(const SelectRowsParams& params);

// The errors of both forms.
Status CheckSelectRows(const SelectRowsParams& params);

}  // namespace intarsia::kernels
