// BidirectionalAttention: attention in an encoder, where every token of a text sees all of them.
//
// Texts of different lengths lie one behind the other without padding, so that one matrix product
// serves them all; here each is on its own. Per text and head: y = softmax(scale q k^T) v.
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

// Any alignment. The outputs overlap nothing. Text i has the rows [row_begins[i], row_begins[i +
// 1]), which may be none.
struct BidirectionalAttentionParams {
  const float* qkv = nullptr;           // [num_rows, 3, num_heads, head_dim]: q, k and v of a row
  const int64_t* row_begins = nullptr;  // [num_texts + 1], ascending from 0; the last is num_rows
  int64_t num_texts = 0;                // 0 does nothing
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  float scale = 0.0f;          // of the scores, usually 1 / sqrt(head_dim)
  float* y = nullptr;          // [num_rows, num_heads, head_dim]; at least one of y and y_bf16
  uint16_t* y_bf16 = nullptr;  // the same in bf16 bits, rounded to nearest even
};

// Uses the threads of `pool`, a text and head at a time, and on each about 8 * head_dim + 16 bytes
// a token of the longest text. What a NaN or an infinity in a text and head does to the rows there
// is unspecified; no other text or head sees it.
//
// Errors: kInvalidArgument for a null pointer, a size < 1 or row_begins that do not ascend from 0;
// kUnsupported for a head_dim above 1,024; kResourceExhausted.
Status BidirectionalAttention(const BidirectionalAttentionParams& params, ThreadPool* pool);

// The definition: one thread, double accumulation.
Status BidirectionalAttentionReference(const BidirectionalAttentionParams& params);

}  // namespace intarsia::kernels
