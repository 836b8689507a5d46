// PagedKvLayer: the placed keys and values of one transformer layer on a device, in pages.
//
// Keys lie rotated, values as they are, both in bf16. A page holds kPageTokens tokens of every kv
// head, the tokens of a head together: that makes the part of a page which one head's attention
// reads a single box of memory, fit for one bulk copy. A request owns the pages that its page table
// names, in the order of its tokens; the pools are shared by all requests.
//
// Thread safety: a PagedKvLayer is a plain view.
// Lifetime: the memory belongs to whoever owns the pools; it must outlast the work enqueued on it.
#pragma once

#include <cstdint>

#include "base/status.h"

// Marks what kernels call too. Nothing where the toolkit does not compile.
#if defined(__CUDACC__)
#define INTARSIA_HOST_DEVICE __host__ __device__
#else
#define INTARSIA_HOST_DEVICE
#endif

namespace intarsia::kernels {

inline constexpr int64_t kPageTokens = 128;

// All pointers are device pointers. Elements are the bits of a bf16.
struct PagedKvLayer {
  uint16_t* k_pages =
      nullptr;  // [num_pages, num_kv_heads, kPageTokens, head_dim], 128-byte aligned
  uint16_t* v_pages = nullptr;  // the same
  // [NumPagesFor(num_tokens)], each in [0, num_pages): where tokens [i * kPageTokens, ...) lie.
  const int32_t* page_table = nullptr;
  int64_t num_pages = 0;   // of each pool
  int64_t num_tokens = 0;  // of this request; what its last page holds beyond them may be anything
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;  // a multiple of 16, at most 256
};

INTARSIA_HOST_DEVICE constexpr int64_t NumPagesFor(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

// Elements of one page of one pool.
INTARSIA_HOST_DEVICE constexpr int64_t PageElements(int32_t num_kv_heads, int32_t head_dim) {
  return int64_t{num_kv_heads} * kPageTokens * head_dim;
}

// Where element 0 of a token lies, counted in elements from `k_pages` and from `v_pages`; `page` is
// an entry of the page table and `token` counts within the page.
INTARSIA_HOST_DEVICE constexpr int64_t PagedKvOffset(const PagedKvLayer& layer, int64_t page,
                                                     int64_t kv_head, int64_t token) {
  return ((page * layer.num_kv_heads + kv_head) * kPageTokens + token) * layer.head_dim;
}

// Checks what the host can see; the entries of the page table are the caller's promise.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for a head_dim that is not a multiple of 16 or above 256.
Status CheckPagedKvLayer(const PagedKvLayer& layer);

}  // namespace intarsia::kernels
