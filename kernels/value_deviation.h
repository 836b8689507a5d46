// ValueDeviation: how far the V of computed rows is from their cached V, on a device.
//
//   deviation[p] = sum over columns of (computed V - cached V)^2     of the row at position p
// The selector `deviation` ranks by it (CacheBlend, arXiv 2405.16444, section 4). On the CPU,
// LayerPlacer::ValueDeviation does the same.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/place_kv.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// All pointers are device pointers for the CUDA form and host pointers for the reference, 16-byte
// aligned.
struct ValueDeviationParams {
  const PlacedSegment* segments = nullptr;   // [num_segments]
  const uint8_t* const* payloads = nullptr;  // of the segments
  const int32_t* positions = nullptr;        // [num_rows], in the prompt
  // [num_rows]: the segment that holds the row's position; negative: nothing is written for it.
  const int32_t* row_segments = nullptr;
  const uint16_t* v = nullptr;  // [num_rows, width] bf16
  int64_t v_stride = 0;         // elements from row to row, a multiple of 8
  float* deviation = nullptr;   // by position
  int64_t num_rows = 0;         // 0 does nothing
  int32_t num_segments = 0;
  int32_t width = 0;  // a multiple of 8
};

// Enqueues the work on `stream` and returns without waiting. Sums in f32, in a fixed order.
// Errors: kInvalidArgument for a null pointer or a size out of range; kInternal if the launch
// fails.
Status ValueDeviationCuda(const ValueDeviationParams& params, Stream stream);

// The definition: one thread, double accumulation.
// Errors: as ValueDeviationCuda, and kInvalidArgument for a segment out of range.
Status ValueDeviationReference(const ValueDeviationParams& params);

// The errors of both forms.
Status CheckValueDeviation(const ValueDeviationParams& params);

}  // namespace intarsia::kernels
