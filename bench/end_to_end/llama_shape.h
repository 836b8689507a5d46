// Llama8B: the shape of Llama-3-8B, for benchmarks with random weights.
#pragma once

#include "kernels/rope.h"
#include "model/model_config.h"

namespace intarsia::bench {

inline model::ModelConfig Llama8B() {
  model::ModelConfig config;
  config.architecture = "llama";
  config.name = "random weights in the shape of Llama-3-8B";
  config.num_layers = 32;
  config.hidden_size = 4096;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.ffn_size = 14'336;
  config.vocab_size = 128'256;
  config.context_length = 131'072;
  config.norm_epsilon = 1e-5F;
  config.attention_scale = 0.08838834764831845F;  // 1 / sqrt(128)
  config.rope_pairing = kernels::RopePairing::kInterleaved;
  config.rope = {.rotary_dim = 128, .base = 500'000.0};
  return config;
}

}  // namespace intarsia::bench
