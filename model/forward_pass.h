// ForwardPass: the rows of one Transformer::Forward on their way through the layers. Internal to
// model/.
//
// Thread safety: owned by one thread, which shares the arithmetic with the pool.
// Lifetime: the weights, the params and the cache must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned_array.h"
#include "base/result.h"
#include "model/transformer.h"
#include "model/transformer_weights.h"

namespace intarsia::model {

class ForwardPass {
 public:
  // REQUIRES: params were checked by Transformer::Forward.
  ForwardPass(const TransformerWeights& weights, const ForwardParams& params, KvCache* cache,
              ThreadPool* pool);

  // `memory` gives the working memory. Errors: those of Transformer::Forward.
  Result<std::vector<float>> Run(const std::shared_ptr<MemoryPool>& memory);

 private:
  struct Angles {
    AlignedArray<float> cosines;  // [num_rows, rotary_dim / 2]
    AlignedArray<float> sines;
  };

  Status Allocate(const std::shared_ptr<MemoryPool>& memory);
  Status Embed();
  Status FillAngles(const kernels::RopeTable& table, Angles* angles);
  Status RunLayer(int32_t index);
  Status ComputeQkv(const LayerWeights& layer, int32_t index);
  Status StoreKeysAndValues(int32_t index);
  void KeepRows(const std::vector<int32_t>& kept);
  // In the last layer only rows with logits go on behind the keys and values.
  void KeepLogitRows();
  Status Attend(int32_t index);
  Status RunFfn(const LayerWeights& layer);
  Result<std::vector<float>> ComputeLogits();

  // RMS norm of [num_rows, hidden_size] rows into what `linear` wants: f32 in normed_ or bf16 bits
  // in normed_bf16_. A pending addend is added to hidden_ on the way.
  Status NormFor(const Linear& linear, const std::vector<float>& weight);
  kernels::MatMulParams NormedInput(const Linear& linear) const;
  Status Rotate(const float* x, int64_t x_stride, int32_t num_heads, const Angles& angles,
                float* y);
  const Angles& AnglesOf(int32_t layer) const;

  const TransformerWeights& weights_;
  const ModelConfig& config_;
  const ForwardParams& params_;
  KvCache* const cache_;
  ThreadPool* const pool_;

  std::vector<int32_t> positions_;  // [num_rows]
  int64_t num_rows_;
  const int32_t num_layers_;  // that the rows go through
  Angles angles_;
  Angles angles_windowed_;
  AlignedArray<float> hidden_;  // [num_rows, hidden_size], the residual stream
  AlignedArray<float> addend_;  // [num_rows, hidden_size], not yet added to hidden_
  bool has_addend_ = false;
  AlignedArray<float> normed_;             // [num_rows, hidden_size]
  AlignedArray<uint16_t> normed_bf16_;     // the same
  AlignedArray<float> qkv_;                // [num_rows, q_size + 2 kv_size]
  AlignedArray<float> q_;                  // [num_rows, q_size], rotated
  AlignedArray<float> k_;                  // [num_rows, kv_size], not rotated
  AlignedArray<float> k_rotated_;          // [num_rows, kv_size]
  AlignedArray<float> v_;                  // [num_rows, kv_size]
  AlignedArray<float> attended_;           // [num_rows, q_size]
  AlignedArray<float> gate_up_;            // [ffn block, 2 ffn_size]
  AlignedArray<float> activated_;          // [ffn block, ffn_size]
  AlignedArray<uint16_t> activated_bf16_;  // [ffn block, ffn_size]
};

}  // namespace intarsia::model
