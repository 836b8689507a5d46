// TinyBert: a random BERT of a few thousand weights, as a folder and as its own definition.
//
// Writes the files of a sentence-transformers model, which a test may damage before it loads them,
// and computes the same vectors in double, one token and one head at a time.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace intarsia::model {

class TinyBert {
 public:
  static constexpr int kHidden = 24, kHeads = 3, kHeadDim = 8, kLayers = 2, kFfn = 40;
  static constexpr int kPositions = 16, kVocabulary = 12;

  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };

  explicit TinyBert(uint32_t seed = 1) : random_(seed) {
    Add("embeddings.word_embeddings.weight", {kVocabulary, kHidden}, 1.0f, 0.0f);
    Add("embeddings.position_embeddings.weight", {kPositions, kHidden}, 0.5f, 0.0f);
    Add("embeddings.token_type_embeddings.weight", {2, kHidden}, 0.5f, 0.0f);
    AddNorm("embeddings.LayerNorm");
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::string name = LayerName(layer);
      for (const char* part : {"query", "key", "value"}) {
        AddDense(name + "attention.self." + part, kHidden, kHidden);
      }
      AddDense(name + "attention.output.dense", kHidden, kHidden);
      AddNorm(name + "attention.output.LayerNorm");
      AddDense(name + "intermediate.dense", kFfn, kHidden);
      AddDense(name + "output.dense", kHidden, kFfn);
      AddNorm(name + "output.LayerNorm");
    }
    files = {
        {"config.json",
         R"({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 24,
             "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 12,
             "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
             "hidden_act": "gelu"})"},
        {"vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nsat\non\nmat\n##s\na\n"},
        {"modules.json",
         R"([{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
             {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
             {"idx": 2, "path": "2_Norm", "type": "sentence_transformers.models.Normalize"}])"},
        {"1_Pooling/config.json",
         R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})"},
        {"sentence_bert_config.json", R"({"max_seq_length": 12, "do_lower_case": false})"},
        {"tokenizer_config.json", R"({"do_lower_case": true, "strip_accents": null})"},
    };
  }

  // model.safetensors of the tensors as they are now.
  std::string Safetensors() const {
    std::string header = "{";
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      header +=
          (header.size() > 1 ? "," : "") + ("\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[");
      for (size_t i = 0; i < tensor.shape.size(); ++i) {
        header += (i > 0 ? "," : "") + std::to_string(tensor.shape[i]);
      }
      header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
      data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * 4);
      header += std::to_string(data.size()) + "]}";
    }
    ByteWriter writer;
    writer.WriteString(header + "}");
    writer.WriteBytes(data);
    return std::move(writer).TakeBytes();
  }

  // Makes it a cross-encoder: a pooler, and a classifier of one output.
  void AddHead() {
    AddDense("pooler.dense", kHidden, kHidden);
    AddDense("classifier", 1, kHidden);
  }
  // The classifier's output for ids of which those from `num_first` on are of the second text.
  double Score(const std::vector<int32_t>& ids, size_t num_first) const {
    Rows pooled = Dense("pooler.dense", {Forward(ids, /*is_tanh=*/false, num_first)[0]});
    for (double& value : pooled[0]) value = std::tanh(value);
    return Dense("classifier", pooled)[0][0];
  }

  // The states [ids.size()][kHidden] behind the last layer. Ids from `num_first` on are of a second
  // text.
  std::vector<std::vector<double>> Forward(const std::vector<int32_t>& ids, bool is_tanh,
                                           size_t num_first = ~size_t{0}) const {
    Rows x(ids.size(), std::vector<double>(kHidden));
    for (size_t row = 0; row < ids.size(); ++row) {
      for (size_t i = 0; i < kHidden; ++i) {
        x[row][i] =
            double{At("embeddings.word_embeddings.weight", static_cast<size_t>(ids[row]), i)} +
            double{At("embeddings.position_embeddings.weight", row, i)} +
            double{At("embeddings.token_type_embeddings.weight", row < num_first ? 0 : 1, i)};
      }
    }
    x = Norm("embeddings.LayerNorm", x);
    for (int layer = 0; layer < kLayers; ++layer) {
      const std::string name = LayerName(layer);
      const Rows context = Attend(name, x);
      x = Norm(name + "attention.output.LayerNorm",
               Sum(x, Dense(name + "attention.output.dense", context)));
      Rows up = Dense(name + "intermediate.dense", x);
      for (auto& row : up) {
        for (double& value : row) value = is_tanh ? GeluTanh(value) : GeluErf(value);
      }
      x = Norm(name + "output.LayerNorm", Sum(x, Dense(name + "output.dense", up)));
    }
    return x;
  }

  // Of length 1: the mean of the states, or the first one.
  std::vector<float> Vector(const std::vector<int32_t>& ids, bool is_cls = false,
                            bool is_tanh = false) const {
    const Rows states = Forward(ids, is_tanh);
    std::vector<double> sum = states[0];
    for (size_t row = 1; row < states.size() && !is_cls; ++row) {
      for (size_t i = 0; i < kHidden; ++i) sum[i] += states[row][i];
    }
    double square_sum = 0.0;
    for (const double value : sum) square_sum += value * value;
    std::vector<float> vector;
    vector.reserve(sum.size());
    for (const double value : sum) {
      vector.push_back(static_cast<float>(value / std::sqrt(square_sum)));
    }
    return vector;
  }

  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> files;  // all but model.safetensors

 private:
  using Rows = std::vector<std::vector<double>>;

  static std::string LayerName(int layer) { return "encoder.layer." + std::to_string(layer) + "."; }
  static double GeluErf(double x) { return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0))); }
  static double GeluTanh(double x) {
    return 0.5 * x * (1.0 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
  }

  void Add(const std::string& name, std::vector<int64_t> shape, float deviation, float mean) {
    std::normal_distribution<float> normal(mean, deviation);
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    Tensor tensor{std::move(shape), std::vector<float>(static_cast<size_t>(size))};
    for (float& value : tensor.values) value = normal(random_);
    tensors[name] = std::move(tensor);
  }
  void AddNorm(const std::string& name) {
    Add(name + ".weight", {kHidden}, 0.2f, 1.0f);
    Add(name + ".bias", {kHidden}, 0.2f, 0.0f);
  }
  void AddDense(const std::string& name, int64_t num_outputs, int64_t num_inputs) {
    Add(name + ".weight", {num_outputs, num_inputs}, 0.2f, 0.0f);
    Add(name + ".bias", {num_outputs}, 0.2f, 0.0f);
  }

  float At(const std::string& name, size_t row, size_t column) const {
    const Tensor& tensor = tensors.at(name);
    return tensor.values[row * static_cast<size_t>(tensor.shape.back()) + column];
  }

  Rows Dense(const std::string& name, const Rows& x) const {
    const auto num_outputs = static_cast<size_t>(tensors.at(name + ".weight").shape[0]);
    Rows y(x.size(), std::vector<double>(num_outputs));
    for (size_t row = 0; row < x.size(); ++row) {
      for (size_t output = 0; output < num_outputs; ++output) {
        double sum = double{tensors.at(name + ".bias").values[output]};
        for (size_t i = 0; i < x[row].size(); ++i) {
          sum += x[row][i] * double{At(name + ".weight", output, i)};
        }
        y[row][output] = sum;
      }
    }
    return y;
  }

  Rows Norm(const std::string& name, const Rows& x) const {
    Rows y = x;
    for (auto& row : y) {
      double mean = 0.0, variance = 0.0;
      for (const double value : row) mean += value / kHidden;
      for (const double value : row) variance += (value - mean) * (value - mean) / kHidden;
      for (size_t i = 0; i < kHidden; ++i) {
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-12) *
                     double{tensors.at(name + ".weight").values[i]} +
                 double{tensors.at(name + ".bias").values[i]};
      }
    }
    return y;
  }

  static Rows Sum(Rows a, const Rows& b) {
    for (size_t row = 0; row < a.size(); ++row) {
      for (size_t i = 0; i < a[row].size(); ++i) a[row][i] += b[row][i];
    }
    return a;
  }

  Rows Attend(const std::string& layer, const Rows& x) const {
    const Rows q = Dense(layer + "attention.self.query", x);
    const Rows k = Dense(layer + "attention.self.key", x);
    const Rows v = Dense(layer + "attention.self.value", x);
    Rows y(x.size(), std::vector<double>(kHidden, 0.0));
    for (size_t row = 0; row < x.size(); ++row) {
      for (size_t head = 0; head < kHeads; ++head) {
        std::vector<double> weights;
        double sum = 0.0;
        for (size_t key = 0; key < x.size(); ++key) {
          double score = 0.0;
          for (size_t i = head * kHeadDim; i < (head + 1) * kHeadDim; ++i) {
            score += q[row][i] * k[key][i];
          }
          weights.push_back(std::exp(score / std::sqrt(double{kHeadDim})));
          sum += weights.back();
        }
        for (size_t key = 0; key < x.size(); ++key) {
          for (size_t i = head * kHeadDim; i < (head + 1) * kHeadDim; ++i) {
            y[row][i] += weights[key] / sum * v[key][i];
          }
        }
      }
    }
    return y;
  }

  std::mt19937 random_;
};

}  // namespace intarsia::model
