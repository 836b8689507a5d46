// TransformerWeights: the weights of one model file, packed and checked. Internal to model/.
//
// Thread safety: immutable after Load.
// Lifetime: the GgufFile must outlive it.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/rope.h"
#include "model/gguf.h"
#include "model/linear.h"
#include "model/model_config.h"

namespace intarsia::model {

struct LayerWeights {
  std::vector<float> attention_norm;       // [hidden_size]
  std::vector<float> ffn_norm;             // [hidden_size]
  std::vector<float> post_attention_norm;  // [hidden_size] or empty
  std::vector<float> post_ffn_norm;        // [hidden_size] or empty
  std::vector<float> q_norm;               // [head_dim] or empty
  std::vector<float> k_norm;               // [head_dim] or empty
  std::unique_ptr<Linear> qkv;             // hidden_size -> q_size + 2 kv_size
  std::unique_ptr<Linear> output;          // q_size -> hidden_size
  std::unique_ptr<Linear> gate_up;         // hidden_size -> 2 ffn_size
  std::unique_ptr<Linear> down;            // ffn_size -> hidden_size
};

struct TransformerWeights {
  ModelConfig config;
  const GgufTensor* embedding = nullptr;  // [vocab_size, hidden_size]
  const GgufTensor* head = nullptr;       // the same tensor when the model ties them
  std::vector<float> output_norm;
  std::vector<LayerWeights> layers;
  std::unique_ptr<kernels::RopeTable> rope;
  std::unique_ptr<kernels::RopeTable> rope_windowed;  // null without windows
  int64_t packed_bytes = 0;

  // Errors: those of Transformer::Load.
  static Result<std::unique_ptr<TransformerWeights>> Load(const GgufFile& file,
                                                          kernels::ComputeType compute,
                                                          ThreadPool* pool);
};

}  // namespace intarsia::model
