// ModelConfig: what one decoder-only transformer is, as data.
//
// The families that we run differ in a handful of switches, not in code: Llama rotates neighbouring
// pairs and Qwen halves, Qwen2 has biases, Qwen3 and Gemma 3 normalise queries and keys, Gemma 3
// scales its embeddings, normalises behind each block and lets five layers of six see a window
// only.
//
// Thread safety: a plain value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "kernels/activation.h"
#include "kernels/rope.h"
#include "model/gguf.h"

namespace intarsia::model {

struct ModelConfig {
  std::string architecture;  // "llama", "qwen2", "qwen3" or "gemma3"
  std::string name;          // as the file calls itself; may be empty
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t ffn_size = 0;
  int32_t vocab_size = 0;
  int32_t context_length = 0;  // positions that the model was trained for
  float norm_epsilon = 0.0f;
  float attention_scale = 0.0f;
  float embedding_scale = 1.0f;
  float final_logit_softcap = 0.0f;      // 0: none
  float attention_logit_softcap = 0.0f;  // 0: none
  kernels::Activation activation = kernels::Activation::kSilu;
  int32_t sliding_window = 0;  // 0: none
  int32_t window_period =
      0;  // every window_period-th layer sees everything; 0: no layer has a window
  kernels::RopePairing rope_pairing = kernels::RopePairing::kHalfSplit;
  kernels::RopeOptions rope;           // of layers that see everything
  kernels::RopeOptions rope_windowed;  // of layers with a window

  bool has_window(int32_t layer) const {
    return sliding_window > 0 && window_period > 0 && (layer + 1) % window_period != 0;
  }
  int32_t q_size() const { return num_heads * head_dim; }
  int32_t kv_size() const { return num_kv_heads * head_dim; }

  // Over everything here that changes a KV cache's values.
  Digest digest() const;

  // Errors: kUnsupported with the name for a family or a RoPE scaling that we do not know,
  // kCorruption for sizes that are missing, absurd or contradict each other.
  static Result<ModelConfig> FromGguf(const GgufFile& file);
};

}  // namespace intarsia::model
