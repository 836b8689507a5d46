// MeasureShift: what a layer's recomputed rows show of the shift that a new context gives cached
// keys and values, on a device.
//
//   key_deltas[s] = new K - cached K of row s, before RoPE, and the same for V
// Rows of an earlier pass are named too, by where that one left their differences.
// Behind the m rows of each chunk stands g, the weighted sum of all rows that the term across
// chunks needs: sum of u[s] * delta[s] over all chunks, or over earlier ones in the causal form.
// PlaceKv multiplies its weights by these m + 1 rows. On the CPU, LayerPlacer::Measure does the
// same.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/place_kv.h"
#include "kernels/propagation_weights.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// All pointers are device pointers for the CUDA form and host pointers for the reference, 16-byte
// aligned. Numbers are bf16 bits unless they are floats.
struct MeasureShiftParams {
  const PropagationChunk* chunks = nullptr;  // [num_chunks]
  const PlacedSegment* segments = nullptr;   // that the chunks name
  const uint8_t* const* payloads = nullptr;  // of the segments
  const int32_t* rows = nullptr;             // [rows]: token of the chunk, as the chunks say
  // [rows]: the row of k and v that is this one, or, for one of an earlier pass, ~ of its row in
  // known_key_deltas and known_value_deltas.
  const int32_t* pass_rows = nullptr;
  const uint16_t* k = nullptr;  // [rows of the pass, width], before RoPE
  const uint16_t* v = nullptr;  // [rows of the pass, width]
  int64_t k_stride = 0;         // elements from row to row, a multiple of 8
  int64_t v_stride = 0;
  const uint16_t* known_key_deltas = nullptr;  // [., width]; may be null without such rows
  const uint16_t* known_value_deltas = nullptr;
  const float* key_u = nullptr;      // [rows]
  const float* value_u = nullptr;    // [rows]
  uint16_t* key_deltas = nullptr;    // [rows + num_chunks, width]
  uint16_t* value_deltas = nullptr;  // [rows + num_chunks, width]
  // MeasureShiftWorkspaceBytes, zeros before the first of calls of one shape, which may share it
  // one after the other. The reference has no use for it.
  float* workspace = nullptr;
  PropagationOrder order = PropagationOrder::kTwoSided;
  int32_t num_chunks = 0;  // 0 does nothing
  int32_t width = 0;       // num_kv_heads * head_dim, a multiple of 8
};

int64_t MeasureShiftWorkspaceBytes(int64_t num_chunks, int64_t width);

// Enqueues the work on `stream` and returns without waiting. Sums in a fixed order. Runs beside
// the kernel in front of it on the stream if that lets later ones start, as PlaceRows does: what it
// reads or writes must not be that kernel's output, and must be complete when that kernel lets go.
// Errors: kInvalidArgument for a null pointer or a size out of range; kInternal if the launch
// fails.
Status MeasureShiftCuda(const MeasureShiftParams& params, Stream stream);

// The definition: one thread, double accumulation.
Status MeasureShiftReference(const MeasureShiftParams& params);

// The errors of both forms.
Status CheckMeasureShift(const MeasureShiftParams& params);

}  // namespace intarsia::kernels
