// PlaceRows: the last step before attention: rotates the rows' queries and keys to their positions
// and puts keys and values into the pages of their requests.
//
// One pass over what the product of queries, keys and values wrote: rotated queries go to an array
// of their own, rotated keys and plain values to the pages. The product's output is not changed, so
// that keys can still be looked at without their rotation.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/paged_kv.h"
#include "kernels/rope_digits.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Pointers are device pointers for the CUDA form and host pointers for the reference; 16-byte
// aligned where they point to bf16 or f32. bf16 is held as bits.
struct PlaceRowsParams {
  PagedKvLayer layer;
  // 0: all rows are of one request. Else each row is a request of its own: row t's page table
  // begins at layer.page_table + t * page_table_stride, and layer.num_tokens bounds every request.
  int64_t page_table_stride = 0;
  // [num_rows, (num_heads + 2 * num_kv_heads) * head_dim]: queries, keys, values
  const uint16_t* qkv = nullptr;
  const int32_t* positions = nullptr;  // [num_rows]
  RopeDigits rope;                     // rotary_dim <= head_dim, a multiple of 16
  uint16_t* q = nullptr;               // [num_rows, num_heads, head_dim], rotated
  int64_t num_rows = 0;                // 0 does nothing
  int32_t num_heads = 0;
};

// Enqueues the work on `stream` and returns without waiting. Rotates in f32 and rounds once, to
// nearest even. A row whose position is negative, not below layer.num_tokens or beyond the digits
// is left alone: its query is not written and nothing is placed.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for a head_dim or rotary_dim that is not a multiple of 16; kInternal if the launch fails.
Status PlaceRowsCuda(const PlaceRowsParams& params, Stream stream);

// The definition: one thread, in double.
Status PlaceRowsReference(const PlaceRowsParams& params);

// The errors of both forms.
Status CheckPlaceRows(const PlaceRowsParams& params);

}  // namespace intarsia::kernels
