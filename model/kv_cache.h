// KvCache: the placed keys and values of one request, for every layer.
//
// Memory is one block, untouched until tokens are stored, so a generous capacity costs address
// space only.
//
// Thread safety: owned by one request; distinct layers may be written concurrently.
#pragma once

#include <cstdint>
#include <memory>

#include "base/aligned_array.h"
#include "base/result.h"
#include "kernels/kv_layout.h"
#include "model/model_config.h"

namespace intarsia::model {

class KvCache {
 public:
  // For positions [0, num_tokens_max), in memory of `pool`, which may be null.
  // Errors: kInvalidArgument for a count < 1, kResourceExhausted if the memory cannot be had.
  static Result<std::unique_ptr<KvCache>> Create(const ModelConfig& config, kernels::KvType type,
                                                 int64_t num_tokens_max,
                                                 const std::shared_ptr<MemoryPool>& pool = nullptr);

  kernels::KvLayer layer(int32_t index) const;
  int64_t capacity() const { return capacity_; }
  kernels::KvType type() const { return type_; }
  int64_t num_bytes() const { return memory_.num_bytes(); }

 private:
  KvCache(const ModelConfig& config, kernels::KvType type, int64_t capacity,
          AlignedArray<char> memory);

  const kernels::KvType type_;
  const int32_t num_layers_;
  const int32_t num_kv_heads_;
  const int32_t head_dim_;
  const int64_t capacity_;
  const int64_t half_layer_bytes_;
  mutable AlignedArray<char> memory_;  // a KvLayer is a view that kernels write through
};

}  // namespace intarsia::model
