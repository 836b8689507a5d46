#include "kernels/attention_tile.h"

#include <algorithm>
#include <limits>

namespace intarsia::kernels {
namespace {

constexpr float kLog2E = 1.44269504088896340736F;

const void* At(const KvLayer& layer, const void* elements, int64_t kv_head, int64_t token) {
  const int64_t element_bytes = layer.type == KvType::kF32 ? 4 : 2;
  const int64_t offset = (kv_head * layer.capacity + token) * layer.head_dim;
  return static_cast<const char*>(elements) + offset * element_bytes;
}

}  // namespace

AttentionTile::AttentionTile(const AttentionRowsParams& params, const AttentionOps& ops,
                             int64_t kv_head, const TileRows& rows, void* queries)
    : params_(params),
      ops_(ops),
      kv_head_(kv_head),
      group_size_(params.num_heads / params.layer.num_kv_heads),
      rows_(rows),
      queries_(queries) {
  const int64_t num_elements = group_size_ * params.layer.head_dim;
  const float factor = params.logit_softcap > 0.0F ? params.scale : params.scale * kLog2E;
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    ops.pack(params.q + HeadOffset(row * group_size_), num_elements, factor,
             static_cast<char*>(queries) + row * num_elements * ops.operand_bytes);
  }
}

int64_t AttentionTile::HeadOffset(int64_t query) const {
  const int64_t row = rows_.Index(query / group_size_);
  const int64_t head = kv_head_ * group_size_ + query % group_size_;
  return (row * params_.num_heads + head) * params_.layer.head_dim;
}

int64_t AttentionTile::FirstVisible(int64_t row) const {
  if (params_.window == 0) return 0;
  return std::max<int64_t>(0, int64_t{rows_.positions[row]} - params_.window + 1);
}

IndexRange AttentionTile::keys() const {
  return {FirstVisible(0) / kKvBlockTokens * kKvBlockTokens,
          int64_t{rows_.positions[rows_.num_rows - 1]} + 1};
}

IndexRange AttentionTile::VisibleRows(int64_t key_begin, int64_t key_end) const {
  IndexRange rows{0, rows_.num_rows};
  while (rows.begin < rows.end && rows_.positions[rows.begin] < key_begin) ++rows.begin;
  while (rows.begin < rows.end && FirstVisible(rows.end - 1) >= key_end) --rows.end;
  return rows;
}

IndexRange AttentionTile::Score(int64_t key_begin, int64_t num_keys, float* scores,
                                int64_t stride) const {
  const int64_t head_dim = params_.layer.head_dim;
  const int64_t num_padded = (num_keys + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
  const IndexRange rows = VisibleRows(key_begin, key_begin + num_keys);
  const IndexRange queries{rows.begin * group_size_, rows.end * group_size_};
  if (queries.size() == 0) return queries;
  ops_.scores({.queries = static_cast<const char*>(queries_) +
                          queries.begin * head_dim * ops_.operand_bytes,
               .keys = KeysFrom(key_begin),
               .num_queries = queries.size(),
               .num_keys = num_padded,
               .head_dim = head_dim,
               .scores = scores + queries.begin * stride,
               .scores_stride = stride,
               .prefetch_keys = prefetch_keys()});
  if (params_.logit_softcap > 0.0F) {
    for (int64_t query = queries.begin; query < queries.end; ++query) {
      ops_.softcap(scores + query * stride, num_padded, params_.logit_softcap);
    }
  }
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t begin = std::max<int64_t>(0, FirstVisible(row) - key_begin);
    const int64_t end = std::min(num_keys, rows_.positions[row] + 1 - key_begin);
    if (begin == 0 && end == num_padded) continue;
    for (int64_t query = row * group_size_; query < (row + 1) * group_size_; ++query) {
      float* const of_query = scores + query * stride;
      std::fill(of_query, of_query + begin, kMasked);
      std::fill(of_query + end, of_query + num_padded, kMasked);
    }
  }
  return queries;
}

const void* AttentionTile::KeysFrom(int64_t token) const {
  return At(params_.layer, params_.layer.k, kv_head_, token);
}

const void* AttentionTile::ValuesFrom(int64_t token) const {
  return At(params_.layer, params_.layer.v, kv_head_, token);
}

}  // namespace intarsia::kernels
