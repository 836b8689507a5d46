// CheckBidirectionalAttention: what both forms of the kernel refuse.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string>

#include "base/status.h"
#include "kernels/bidirectional_attention.h"

namespace intarsia::kernels {

// Errors: kInvalidArgument and kUnsupported, as bidirectional_attention.h says.
inline Status CheckBidirectionalAttention(const BidirectionalAttentionParams& params) {
  constexpr int32_t kHeadDimMax = 1024;
  if (params.num_texts == 0) return Status::Ok();
  const bool has_pointers = params.qkv != nullptr && params.row_begins != nullptr &&
                            (params.y != nullptr || params.y_bf16 != nullptr);
  if (!has_pointers || params.num_texts < 0 || params.num_heads < 1 || params.head_dim < 1) {
    return {StatusCode::kInvalidArgument,
            "bidirectional attention: null pointer or bad size: texts=" +
                std::to_string(params.num_texts) + " heads=" + std::to_string(params.num_heads) +
                " head_dim=" + std::to_string(params.head_dim)};
  }
  if (params.head_dim > kHeadDimMax) {
    return {StatusCode::kUnsupported, "bidirectional attention: head_dim is above 1024: head_dim=" +
                                          std::to_string(params.head_dim)};
  }
  bool ascends = params.row_begins[0] == 0;
  for (int64_t text = 0; text < params.num_texts; ++text) {
    ascends = ascends && params.row_begins[text] <= params.row_begins[text + 1];
  }
  if (ascends) return Status::Ok();
  return {StatusCode::kInvalidArgument, "bidirectional attention: row_begins do not ascend from 0"};
}

}  // namespace intarsia::kernels
