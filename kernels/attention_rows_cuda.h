// AttentionRowsCuda, AttentionMassCuda: the CUDA forms of AttentionRows and AttentionMass
// (kernels/attention_rows.h), over keys in pages and in bf16.
//
// Rows, mask, scale and softcap mean what they mean there. Two things differ, because a block of
// rows shares a block of keys: keys up to the largest position must hold finite numbers, also where
// a particular row does not look, and rows may belong to several requests.
//
// Thread safety: all functions may be called concurrently on distinct outputs and workspaces.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/status.h"
#include "kernels/paged_kv.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// All pointers are device pointers. Queries are rotated and not yet scaled; head h reads kv head
// h / (num_heads / num_kv_heads).
struct AttentionRowsCudaParams {
  PagedKvLayer layer;  // head_dim 64, 128 or 256
  // 0: the rows are of one request, sorted by position. Else each row is a request of its own, in
  // any order: row t reads its pages from layer.page_table + t * page_table_stride.
  int64_t page_table_stride = 0;
  const uint16_t* q = nullptr;         // bf16 [num_rows, num_heads, head_dim], 16-byte aligned
  const int32_t* positions = nullptr;  // [num_rows], each in [0, max_position]
  int64_t num_rows = 0;                // num_rows * num_heads < 2^31
  int64_t max_position = 0;            // below layer.num_tokens
  int32_t num_heads = 0;
  float scale = 0.0f;  // of the scores, > 0
  int32_t window = 0;  // 0: no window; else a row sees its last `window` keys, itself included
  float logit_softcap = 0.0f;  // 0: off; else scores become cap * tanh(score / cap)
  uint16_t* output = nullptr;  // bf16 [num_rows, num_heads, head_dim], 16-byte aligned; not q
  // Natural logarithm of the sum over visible keys of exp(score); may be null.
  float* lse = nullptr;       // [num_rows, num_heads]
  void* workspace = nullptr;  // 256-byte aligned; may be null if none is needed
  int64_t workspace_bytes = 0;
};

// The workspace that AttentionRowsCuda wants for these params on the current device (`workspace`
// and `workspace_bytes` are not looked at). Errors: as AttentionRowsCuda.
Result<int64_t> AttentionRowsWorkspaceBytes(const AttentionRowsCudaParams& params);

// Enqueues the attention and returns without waiting. Keys beyond max_position are never read into
// a result, NaN or not. Two runs on one device give the same bits.
//
// Errors: kInvalidArgument for a null or misaligned pointer, a size out of range or a workspace too
// small; kUnsupported for a head_dim that is not compiled in or a device below compute capability
// 8.0; kInternal if the launch fails. That positions are sorted and in range, and that page tables
// name pages of the pool, is on the device and the caller's promise.
Status AttentionRowsCuda(const AttentionRowsCudaParams& params, Stream stream);

struct AttentionMassCudaParams {
  AttentionRowsCudaParams rows;    // `output` is ignored; at most kMassRowsMax rows of one request
  const float* weights = nullptr;  // [num_rows]
  // What AttentionRowsCuda gave for the same rows, or null: then it is computed first.
  const float* lse = nullptr;  // [num_rows, num_heads]
  float* mass = nullptr;       // [num_keys], added to
  int64_t num_keys = 0;        // at least rows.max_position + 1
};

inline constexpr int64_t kMassRowsMax = 1024;

// The workspace for these params, to be named in `rows`. Errors: as AttentionMassCuda.
Result<int64_t> AttentionMassWorkspaceBytes(const AttentionMassCudaParams& params);

// Enqueues mass[u] += sum over rows t of weights[t] * (1 / num_heads) * sum over heads of
// softmax_t(u), and returns without waiting. A row of weight 0 adds nothing. Two runs give the same
// bits. Errors: as AttentionRowsCuda.
Status AttentionMassCuda(const AttentionMassCudaParams& params, Stream stream);

}  // namespace intarsia::kernels
