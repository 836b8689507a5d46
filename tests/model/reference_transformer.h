// ReferenceTransformer: the definition of the forward pass, in double, token by token.
//
// Written from the papers' formulas and without anything of model/ but the file reader, so that an
// error in the product is not repeated here: Llama (arXiv 2302.13971), Qwen2 (2407.10671), Qwen3
// (2505.09388), Gemma 3 (2503.19786), RoPE (2104.09864).
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/gguf.h"

namespace intarsia::model {

using Vector = std::vector<double>;

class ReferenceTransformer {
 public:
  // K before RoPE and V of one layer, by position.
  struct Layer {
    std::vector<Vector> k;
    std::vector<Vector> v;
  };
  using Cache = std::vector<Layer>;

  explicit ReferenceTransformer(const GgufFile& file) : file_(file) {
    family_ = *file.GetString("general.architecture");
    const auto number = [&](const char* key) { return *file.GetInt(family_ + "." + key); };
    num_layers_ = number("block_count");
    hidden_ = number("embedding_length");
    num_heads_ = number("attention.head_count");
    num_kv_heads_ = number("attention.head_count_kv");
    head_dim_ = number("attention.key_length");
    ffn_ = number("feed_forward_length");
    epsilon_ = *file.GetFloat(family_ + ".attention.layer_norm_rms_epsilon");
    rope_base_ = *file.GetFloat(family_ + ".rope.freq_base");
    if (family_ == "gemma3") window_ = number("attention.sliding_window");
  }

  Cache EmptyCache(int64_t num_tokens) const {
    return Cache(static_cast<size_t>(num_layers_),
                 {std::vector<Vector>(static_cast<size_t>(num_tokens)),
                  std::vector<Vector>(static_cast<size_t>(num_tokens))});
  }

  // Runs rows over the cache as the sparse-row prefill is defined: per layer all rows' K and V are
  // written, then each row attends to u <= p_t. Returns the logits of the last row.
  Vector Forward(const std::vector<int32_t>& tokens, const std::vector<int32_t>& positions,
                 Cache* cache) const {
    std::vector<Vector> rows;
    for (const int32_t token : tokens) {
      Vector row = Row("token_embd.weight", token, hidden_);
      if (family_ == "gemma3") {
        for (double& x : row) x *= std::sqrt(static_cast<double>(hidden_));
      }
      rows.push_back(row);
    }
    for (int64_t index = 0; index < num_layers_; ++index) {
      RunLayer(index, positions, &rows, &(*cache)[static_cast<size_t>(index)]);
    }
    const Vector last = Norm(rows.back(), Weights("output_norm.weight"));
    const bool is_tied = !file_.GetTensor("output.weight").ok();
    return Multiply(is_tied ? "token_embd.weight" : "output.weight", last);
  }

  // The mean over heads of the last row's attention to each key in the last third of layers, added
  // up; with the mean row's: the selector's score.
  int64_t num_layers() const { return num_layers_; }

 private:
  const std::vector<float>& Values(const std::string& name) const {
    auto [found, is_new] = values_.try_emplace(name);
    if (is_new) {
      const auto tensor = file_.GetTensor(name);
      INTARSIA_CHECK(tensor.ok());
      found->second.resize(static_cast<size_t>((*tensor)->num_elements()));
      INTARSIA_CHECK(kernels::Dequantize((*tensor)->type, (*tensor)->bytes.data(),
                                         (*tensor)->num_elements(), found->second.data())
                         .ok());
    }
    return found->second;
  }
  Vector Weights(const std::string& name) const {
    const std::vector<float>& values = Values(name);
    return Vector(values.begin(), values.end());
  }
  Vector Row(const std::string& name, int64_t row, int64_t width) const {
    const std::vector<float>& values = Values(name);
    return Vector(values.begin() + row * width, values.begin() + (row + 1) * width);
  }
  Vector Multiply(const std::string& name, const Vector& x) const {
    const std::vector<float>& values = Values(name);
    Vector y(values.size() / x.size());
    for (size_t row = 0; row < y.size(); ++row) {
      for (size_t i = 0; i < x.size(); ++i) y[row] += values[row * x.size() + i] * x[i];
    }
    return y;
  }
  Vector Project(const std::string& name, const Vector& x) const {
    Vector y = Multiply(name + ".weight", x);
    if (file_.GetTensor(name + ".bias").ok()) {
      const Vector bias = Weights(name + ".bias");
      for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i];
    }
    return y;
  }
  Vector Norm(const Vector& x, const Vector& weight) const {
    double sum = 0.0;
    for (const double value : x) sum += value * value;
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + epsilon_);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
    return y;
  }
  // Norms each head by itself, if the model has such a norm.
  void NormHeads(const std::string& name, Vector* x) const {
    if (!file_.GetTensor(name).ok()) return;
    const Vector weight = Weights(name);
    for (size_t begin = 0; begin < x->size(); begin += weight.size()) {
      const Vector head(x->begin() + static_cast<int64_t>(begin),
                        x->begin() + static_cast<int64_t>(begin + weight.size()));
      std::ranges::copy(Norm(head, weight), x->begin() + static_cast<int64_t>(begin));
    }
  }
  bool HasWindow(int64_t layer) const { return window_ > 0 && (layer + 1) % 6 != 0; }

  Vector Rotate(const Vector& x, int64_t layer, int64_t position) const {
    Vector y = x;
    const auto half = static_cast<size_t>(head_dim_ / 2);
    const double base = HasWindow(layer) ? 10'000.0 : rope_base_;
    for (size_t begin = 0; begin < x.size(); begin += 2 * half) {
      for (size_t i = 0; i < half; ++i) {
        double angle = static_cast<double>(position) *
                       std::pow(base, -static_cast<double>(2 * i) / static_cast<double>(head_dim_));
        if (file_.GetTensor("rope_freqs.weight").ok()) angle /= Values("rope_freqs.weight")[i];
        const bool is_paired = family_ == "llama";
        const size_t a = begin + (is_paired ? 2 * i : i);
        const size_t b = is_paired ? a + 1 : a + half;
        y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
        y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
      }
    }
    return y;
  }

  Vector Attend(const Vector& q, int64_t index, int64_t position, const Layer& layer) const {
    Vector output(q.size());
    const int64_t first = HasWindow(index) ? std::max<int64_t>(0, position - window_ + 1) : 0;
    std::vector<Vector> keys;
    for (int64_t u = first; u <= position; ++u) {
      keys.push_back(Rotate(layer.k[static_cast<size_t>(u)], index, u));
    }
    for (int64_t head = 0; head < num_heads_; ++head) {
      const int64_t kv_head = head / (num_heads_ / num_kv_heads_);
      Vector weights(keys.size());
      double maximum = -1e300;
      for (size_t u = 0; u < keys.size(); ++u) {
        for (int64_t i = 0; i < head_dim_; ++i) {
          weights[u] += q[static_cast<size_t>(head * head_dim_ + i)] *
                        keys[u][static_cast<size_t>(kv_head * head_dim_ + i)];
        }
        weights[u] /= std::sqrt(static_cast<double>(head_dim_));
        maximum = std::max(maximum, weights[u]);
      }
      double sum = 0.0;
      for (double& weight : weights) sum += weight = std::exp(weight - maximum);
      for (size_t u = 0; u < keys.size(); ++u) {
        const Vector& v = layer.v[static_cast<size_t>(first) + u];
        for (int64_t i = 0; i < head_dim_; ++i) {
          output[static_cast<size_t>(head * head_dim_ + i)] +=
              weights[u] / sum * v[static_cast<size_t>(kv_head * head_dim_ + i)];
        }
      }
    }
    return output;
  }

  double Activate(double x) const {
    if (family_ != "gemma3") return x / (1.0 + std::exp(-x));
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
  }

  // Adds the block's output to the residual row, through Gemma's norm behind the block.
  void AddBlock(const std::string& post_norm, Vector block, Vector* row) const {
    if (file_.GetTensor(post_norm).ok()) block = Norm(block, Weights(post_norm));
    for (size_t i = 0; i < row->size(); ++i) (*row)[i] += block[i];
  }

  void RunLayer(int64_t index, const std::vector<int32_t>& positions, std::vector<Vector>* rows,
                Layer* layer) const {
    const std::string prefix = "blk." + std::to_string(index) + ".";
    std::vector<Vector> queries;
    for (size_t t = 0; t < rows->size(); ++t) {
      const Vector x = Norm((*rows)[t], Weights(prefix + "attn_norm.weight"));
      Vector q = Project(prefix + "attn_q", x);
      Vector k = Project(prefix + "attn_k", x);
      NormHeads(prefix + "attn_q_norm.weight", &q);
      NormHeads(prefix + "attn_k_norm.weight", &k);
      queries.push_back(Rotate(q, index, positions[t]));
      layer->k[static_cast<size_t>(positions[t])] = k;
      layer->v[static_cast<size_t>(positions[t])] = Project(prefix + "attn_v", x);
    }
    for (size_t t = 0; t < rows->size(); ++t) {
      Vector& row = (*rows)[t];
      AddBlock(prefix + "post_attention_norm.weight",
               Project(prefix + "attn_output", Attend(queries[t], index, positions[t], *layer)),
               &row);
      const Vector x = Norm(row, Weights(prefix + "ffn_norm.weight"));
      Vector gate = Project(prefix + "ffn_gate", x);
      const Vector up = Project(prefix + "ffn_up", x);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = Activate(gate[i]) * up[i];
      AddBlock(prefix + "post_ffw_norm.weight", Project(prefix + "ffn_down", gate), &row);
    }
  }

  const GgufFile& file_;
  std::string family_;
  int64_t num_layers_ = 0;
  int64_t hidden_ = 0;
  int64_t num_heads_ = 0;
  int64_t num_kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t ffn_ = 0;
  int64_t window_ = 0;
  double epsilon_ = 0.0;
  double rope_base_ = 0.0;
  mutable std::map<std::string, std::vector<float>> values_;
};

}  // namespace intarsia::model
