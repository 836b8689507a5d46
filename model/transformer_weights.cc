#include "model/transformer_weights.h"

#include <string>
#include <utility>

namespace intarsia::model {
namespace {

Result<std::vector<float>> OptionalVector(const GgufFile& file, const std::string& name,
                                          int64_t size) {
  if (!file.GetTensor(name).ok()) return std::vector<float>();
  return RequireVector(file, name, size);
}

Result<LayerWeights> LoadLayer(const GgufFile& file, const ModelConfig& config, int32_t index,
                               kernels::ComputeType compute, ThreadPool* pool) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const int64_t hidden = config.hidden_size;
  // With 8-bit products, queries, keys and values stay exact: a tenth of the work and, of the loss
  // in the next token's distribution, a third to a half (BENCHMARKS.md).
  const auto qkv_compute = compute != kernels::ComputeType::kInt8 ? compute
                           : kernels::HasFastBf16()               ? kernels::ComputeType::kBf16
                                                                  : kernels::ComputeType::kF32;
  LayerWeights layer;
  INTARSIA_ASSIGN_OR_RETURN(layer.attention_norm,
                            RequireVector(file, prefix + "attn_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer.ffn_norm,
                            RequireVector(file, prefix + "ffn_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer.post_attention_norm,
                            OptionalVector(file, prefix + "post_attention_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer.post_ffn_norm,
                            OptionalVector(file, prefix + "post_ffw_norm.weight", hidden));
  INTARSIA_ASSIGN_OR_RETURN(layer.q_norm,
                            OptionalVector(file, prefix + "attn_q_norm.weight", config.head_dim));
  INTARSIA_ASSIGN_OR_RETURN(layer.k_norm,
                            OptionalVector(file, prefix + "attn_k_norm.weight", config.head_dim));
  INTARSIA_ASSIGN_OR_RETURN(layer.qkv, Linear::Load(file,
                                                    {{prefix + "attn_q", config.q_size()},
                                                     {prefix + "attn_k", config.kv_size()},
                                                     {prefix + "attn_v", config.kv_size()}},
                                                    hidden, qkv_compute, pool));
  INTARSIA_ASSIGN_OR_RETURN(layer.output, Linear::Load(file, {{prefix + "attn_output", hidden}},
                                                       config.q_size(), compute, pool));
  INTARSIA_ASSIGN_OR_RETURN(layer.gate_up, Linear::Load(file,
                                                        {{prefix + "ffn_gate", config.ffn_size},
                                                         {prefix + "ffn_up", config.ffn_size}},
                                                        hidden, compute, pool));
  INTARSIA_ASSIGN_OR_RETURN(layer.down, Linear::Load(file, {{prefix + "ffn_down", hidden}},
                                                     config.ffn_size, compute, pool));
  return layer;
}

}  // namespace

Result<std::unique_ptr<TransformerWeights>> TransformerWeights::Load(const GgufFile& file,
                                                                     kernels::ComputeType compute,
                                                                     ThreadPool* pool) {
  auto weights = std::make_unique<TransformerWeights>();
  INTARSIA_ASSIGN_OR_RETURN(weights->config, ModelConfig::FromGguf(file));
  const ModelConfig& config = weights->config;
  INTARSIA_ASSIGN_OR_RETURN(
      weights->embedding,
      RequireTensor(file, "token_embd.weight", {config.hidden_size, config.vocab_size}));
  weights->head = weights->embedding;
  if (file.GetTensor("output.weight").ok()) {
    INTARSIA_ASSIGN_OR_RETURN(
        weights->head,
        RequireTensor(file, "output.weight", {config.hidden_size, config.vocab_size}));
  }
  INTARSIA_ASSIGN_OR_RETURN(weights->output_norm,
                            RequireVector(file, "output_norm.weight", config.hidden_size));
  INTARSIA_ASSIGN_OR_RETURN(weights->rope, kernels::RopeTable::Create(config.rope));
  if (config.sliding_window > 0) {
    INTARSIA_ASSIGN_OR_RETURN(weights->rope_windowed,
                              kernels::RopeTable::Create(config.rope_windowed));
  }
  for (int32_t index = 0; index < config.num_layers; ++index) {
    INTARSIA_ASSIGN_OR_RETURN(LayerWeights layer, LoadLayer(file, config, index, compute, pool));
    weights->packed_bytes += layer.qkv->packed_bytes() + layer.output->packed_bytes() +
                             layer.gate_up->packed_bytes() + layer.down->packed_bytes();
    weights->layers.push_back(std::move(layer));
  }
  return weights;
}

}  // namespace intarsia::model
