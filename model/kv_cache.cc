#include "model/kv_cache.h"

#include <limits>
#include <string>
#include <utility>

#include "base/check.h"

namespace intarsia::model {
namespace {

// More than any machine that we run on has; keeps the products below from overflowing.
constexpr int64_t kBytesMax = int64_t{1} << 42;

}  // namespace

Result<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config, kernels::KvType type,
                                                 int64_t num_tokens_max,
                                                 const std::shared_ptr<MemoryPool>& pool) {
  if (num_tokens_max < 1 || num_tokens_max > std::numeric_limits<int32_t>::max() - 64) {
    return Status(StatusCode::kInvalidArgument,
                  "a KV cache holds at least one token: asked=" + std::to_string(num_tokens_max));
  }
  const int64_t capacity = (num_tokens_max + kernels::kKvBlockTokens - 1) /
                           kernels::kKvBlockTokens * kernels::kKvBlockTokens;
  const int64_t half_layer_bytes =
      kernels::KvLayerBytes(type, config.num_kv_heads, config.head_dim, capacity);
  if (half_layer_bytes > kBytesMax / (2 * int64_t{config.num_layers})) {
    return Status(StatusCode::kResourceExhausted,
                  "a KV cache of this size does not fit: tokens=" + std::to_string(num_tokens_max));
  }
  INTARSIA_ASSIGN_OR_RETURN(
      AlignedArray<char> memory,
      AlignedArray<char>::TryCreate(2 * half_layer_bytes * config.num_layers, pool));
  return std::unique_ptr<KvCache>(new KvCache(config, type, capacity, std::move(memory)));
}

KvCache::KvCache(const ModelConfig& config, kernels::KvType type, int64_t capacity,
                 AlignedArray<char> memory)
    : type_(type),
      num_layers_(config.num_layers),
      num_kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      capacity_(capacity),
      half_layer_bytes_(kernels::KvLayerBytes(type, num_kv_heads_, head_dim_, capacity)),
      memory_(std::move(memory)) {}

kernels::KvLayer KvCache::layer(int32_t index) const {
  INTARSIA_CHECK(index >= 0 && index < num_layers_);
  char* const begin = memory_.data() + 2 * half_layer_bytes_ * index;
  return {.k = begin,
          .v = begin + half_layer_bytes_,
          .type = type_,
          .num_kv_heads = num_kv_heads_,
          .head_dim = head_dim_,
          .capacity = capacity_};
}

}  // namespace intarsia::model
