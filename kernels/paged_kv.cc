#include "kernels/paged_kv.h"

#include <cstdint>
#include <string>

namespace intarsia::kernels {
namespace {

// What keeps every offset, in bytes too, far within int64_t.
constexpr int64_t kPagesMax = int64_t{1} << 31;
constexpr int32_t kKvHeadsMax = 1 << 14;
constexpr int32_t kHeadDimMax = 256;
constexpr uintptr_t kAlignment = 128;

bool IsUsable(const void* pages) {
  return pages != nullptr && reinterpret_cast<uintptr_t>(pages) % kAlignment == 0;
}

}  // namespace

Status CheckPagedKvLayer(const PagedKvLayer& layer) {
  if (layer.head_dim <= 0 || layer.head_dim % 16 != 0 || layer.head_dim > kHeadDimMax) {
    return Status(StatusCode::kUnsupported,
                  "paged kv: head_dim must be a multiple of 16 up to 256: head_dim=" +
                      std::to_string(layer.head_dim));
  }
  if (layer.num_kv_heads <= 0 || layer.num_kv_heads > kKvHeadsMax || layer.num_pages < 0 ||
      layer.num_pages > kPagesMax || layer.num_tokens < 0 ||
      layer.num_tokens > kPagesMax * kPageTokens) {
    return Status(
        StatusCode::kInvalidArgument,
        "paged kv: size out of range: num_kv_heads=" + std::to_string(layer.num_kv_heads) +
            " num_pages=" + std::to_string(layer.num_pages) +
            " num_tokens=" + std::to_string(layer.num_tokens));
  }
  if (layer.num_tokens == 0) return Status::Ok();
  if (layer.num_pages == 0 || !IsUsable(layer.k_pages) || !IsUsable(layer.v_pages)) {
    return Status(StatusCode::kInvalidArgument,
                  "paged kv: pools must be non-empty and aligned to 128 bytes: num_pages=" +
                      std::to_string(layer.num_pages));
  }
  if (layer.page_table == nullptr ||
      reinterpret_cast<uintptr_t>(layer.page_table) % alignof(int32_t) != 0) {
    return Status(StatusCode::kInvalidArgument, "paged kv: null or misaligned page table");
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
