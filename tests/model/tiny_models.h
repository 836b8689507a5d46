// Tiny models: random models of every family, small enough to check against plain arithmetic.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/gguf.h"
#include "tests/model/gguf_builder.h"

namespace intarsia::model {

struct TinyShape {
  std::string_view family = "llama";  // "llama", "qwen2", "qwen3", "gemma3" or "llama3" (scaled)
  uint32_t num_layers = 4;
  uint32_t hidden = 64;
  uint32_t num_heads = 4;
  uint32_t num_kv_heads = 2;
  uint32_t head_dim = 16;
  uint32_t ffn = 96;
  uint32_t vocab = 160;
  uint32_t window = 8;  // gemma3
  uint32_t context = 512;
};

inline std::vector<std::string_view> TinyFamilies() {
  return {"llama", "llama3", "qwen2", "qwen3", "gemma3"};
}

// Adds a model with random f32 weights to what `builder` holds, for example a tokenizer.
inline void AddTinyModel(const TinyShape& shape, uint64_t seed, GgufBuilder* target) {
  const std::string family(shape.family == "llama3" ? "llama" : shape.family);
  const auto key = [&family](const char* name) { return family + "." + name; };
  const bool is_gemma = family == "gemma3";
  GgufBuilder& builder = *target;
  builder.AddString("general.architecture", family)
      .AddUint32(key("block_count"), is_gemma ? 7 : shape.num_layers)
      .AddUint32(key("embedding_length"), shape.hidden)
      .AddUint32(key("feed_forward_length"), shape.ffn)
      .AddUint32(key("attention.head_count"), shape.num_heads)
      .AddUint32(key("attention.head_count_kv"), shape.num_kv_heads)
      .AddUint32(key("attention.key_length"), shape.head_dim)
      .AddUint32(key("attention.value_length"), shape.head_dim)
      .AddUint32(key("context_length"), shape.context)
      .AddFloat32(key("rope.freq_base"), 1000.0f)
      .AddFloat32(key("attention.layer_norm_rms_epsilon"), 1e-5f);
  if (is_gemma) builder.AddUint32(key("attention.sliding_window"), shape.window);
  const auto add = [&](const std::string& name, const std::vector<int64_t>& size, float magnitude) {
    builder.AddRandom(name, kernels::BlockType::kF32, size, magnitude, seed++);
  };
  const int64_t q = shape.num_heads * shape.head_dim;
  const int64_t kv = shape.num_kv_heads * shape.head_dim;
  const int64_t hidden = shape.hidden;
  const int64_t ffn = shape.ffn;
  if (shape.family == "llama3") {
    const std::vector<float> eighths = {1.0f, 1.0f, 1.5f, 2.0f, 4.0f, 8.0f, 8.0f, 8.0f};
    std::vector<float> divisors;
    for (uint32_t i = 0; i < shape.head_dim / 2; ++i) {
      divisors.push_back(eighths[i * eighths.size() / (shape.head_dim / 2)]);
    }
    builder.AddF32("rope_freqs.weight", {shape.head_dim / 2}, divisors);
  }
  add("token_embd.weight", {hidden, shape.vocab}, is_gemma ? 0.2f : 1.0f);
  add("output_norm.weight", {hidden}, 1.0f);
  for (uint32_t layer = 0; layer < (is_gemma ? 7 : shape.num_layers); ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    add(prefix + "attn_norm.weight", {hidden}, 1.0f);
    add(prefix + "ffn_norm.weight", {hidden}, 1.0f);
    add(prefix + "attn_q.weight", {hidden, q}, 0.3f);
    add(prefix + "attn_k.weight", {hidden, kv}, 0.3f);
    add(prefix + "attn_v.weight", {hidden, kv}, 0.3f);
    add(prefix + "attn_output.weight", {q, hidden}, 0.3f);
    add(prefix + "ffn_gate.weight", {hidden, ffn}, 0.2f);
    add(prefix + "ffn_up.weight", {hidden, ffn}, 0.2f);
    add(prefix + "ffn_down.weight", {ffn, hidden}, 0.2f);
    if (family == "qwen2") {
      add(prefix + "attn_q.bias", {q}, 0.5f);
      add(prefix + "attn_k.bias", {kv}, 0.5f);
      add(prefix + "attn_v.bias", {kv}, 0.5f);
    }
    if (family == "qwen3" || is_gemma) {
      add(prefix + "attn_q_norm.weight", {shape.head_dim}, 1.0f);
      add(prefix + "attn_k_norm.weight", {shape.head_dim}, 1.0f);
    }
    if (is_gemma) {
      add(prefix + "post_attention_norm.weight", {hidden}, 0.5f);
      add(prefix + "post_ffw_norm.weight", {hidden}, 0.5f);
    }
  }
}

// The bytes of a GGUF file with nothing but the model.
inline std::string TinyModelBytes(const TinyShape& shape, uint64_t seed = 1) {
  GgufBuilder builder;
  AddTinyModel(shape, seed, &builder);
  return builder.Build();
}

// Token ids that look random and are the same in every run.
inline std::vector<int32_t> SomeTokens(int64_t count, int32_t vocab, uint32_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    tokens.push_back(static_cast<int32_t>((seed >> 8) % static_cast<uint32_t>(vocab)));
  }
  return tokens;
}

// A file with the bytes that it is read from.
struct TinyModel {
  std::string bytes;
  std::unique_ptr<GgufFile> file;

  explicit TinyModel(const TinyShape& shape, uint64_t seed = 1)
      : bytes(TinyModelBytes(shape, seed)) {
    auto parsed = GgufFile::Parse(bytes, "tiny model");
    INTARSIA_CHECK(parsed.ok());
    file = *std::move(parsed);
  }
};

}  // namespace intarsia::model
