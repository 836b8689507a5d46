// GatherRows: moves chosen rows of an array on a device together; EmbedRows: looks tokens up.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Pointers are device pointers for the CUDA form and host pointers for the reference. `source` and
// `target` are aligned to 16 bytes if row_bytes is a multiple of 16, else to 4.
struct GatherRowsParams {
  const void* source = nullptr;
  const int32_t* rows = nullptr;  // [num_rows], each in [0, num_source_rows)
  void* target = nullptr;         // not overlapping `source`
  int64_t num_source_rows = 0;
  int64_t num_rows = 0;   // 0 does nothing
  int64_t row_bytes = 0;  // of both, without gaps; a multiple of 4
};

// target[i] = source[rows[i]]. Enqueues the work on `stream` and returns without waiting. A row
// index out of range gives a row of zeros.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kInternal if
// the launch fails.
Status GatherRowsCuda(const GatherRowsParams& params, Stream stream);
Status GatherRowsReference(const GatherRowsParams& params);
Status CheckGatherRows(const GatherRowsParams& params);

// Pointers as above; 16-byte aligned but for `tokens`.
struct EmbedRowsParams {
  const uint16_t* table = nullptr;  // [vocab_size, dim] bf16
  const int32_t* tokens = nullptr;  // [num_rows], each in [0, vocab_size)
  float* hidden = nullptr;          // [num_rows, dim]
  int64_t vocab_size = 0;
  int64_t num_rows = 0;  // 0 does nothing
  int64_t dim = 0;       // a multiple of 8
  float scale = 1.0F;
};

// hidden[i] = scale * table[tokens[i]]. Enqueues the work on `stream` and returns without waiting.
// A token out of range gives a row of zeros.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for a `dim` that is no multiple of 8; kInternal if the launch fails.
Status EmbedRowsCuda(const EmbedRowsParams& params, Stream stream);
Status EmbedRowsReference(const EmbedRowsParams& params);
Status CheckEmbedRows(const EmbedRowsParams& params);

}  // namespace intarsia::kernels
