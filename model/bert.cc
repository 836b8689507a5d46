#include "model/bert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "base/aligned_array.h"
#include "kernels/bidirectional_attention.h"
#include "kernels/layer_norm.h"

namespace intarsia::model {
namespace {

using kernels::ComputeType;
using kernels::PackedMatrix;

// What a tensor is wrong in is what is wrong with the file.
Status AsCorruption(const Status& status) {
  if (status.code() != StatusCode::kNotFound && status.code() != StatusCode::kInvalidArgument) {
    return status;
  }
  return {StatusCode::kCorruption, std::string(status.message())};
}

struct Norm {
  std::vector<float> gain;
  std::vector<float> bias;
};

struct Dense {
  std::unique_ptr<PackedMatrix> weight;
  std::vector<float> bias;
};

struct Layer {
  Dense qkv;  // query, key and value one below the other
  Dense attention_output;
  Norm attention_norm;
  Dense ffn_up;
  Dense ffn_down;
  Norm ffn_norm;
};

class Loader {
 public:
  Loader(const SafetensorsFile& file, const BertConfig& config, ComputeType compute,
         ThreadPool* pool)
      : file_(file),
        config_(config),
        compute_(compute),
        pool_(pool),
        prefix_(file.Has("embeddings.word_embeddings.weight") ? "" : "bert.") {}

  Result<std::vector<float>> ReadTensor(const std::string& name,
                                        std::initializer_list<int64_t> shape) const {
    auto values = file_.ReadF32(prefix_ + name, std::span(shape.begin(), shape.size()));
    if (!values.ok()) return AsCorruption(values.status());
    return values;
  }

  // Files converted from TensorFlow call the two "gamma" and "beta".
  Result<Norm> ReadNorm(const std::string& name) const {
    const bool is_old = file_.Has(prefix_ + name + ".gamma");
    Norm norm;
    INTARSIA_ASSIGN_OR_RETURN(
        norm.gain, ReadTensor(name + (is_old ? ".gamma" : ".weight"), {config_.hidden_size}));
    INTARSIA_ASSIGN_OR_RETURN(
        norm.bias, ReadTensor(name + (is_old ? ".beta" : ".bias"), {config_.hidden_size}));
    return norm;
  }

  // Packs the matrices `names`, each [num_outputs, num_inputs], one below the other.
  Result<Dense> ReadDense(const std::vector<std::string>& names, int64_t num_outputs,
                          int64_t num_inputs) const {
    Dense dense;
    std::vector<float> rows;
    for (const std::string& name : names) {
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> part,
                                ReadTensor(name + ".weight", {num_outputs, num_inputs}));
      rows.insert(rows.end(), part.begin(), part.end());
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> bias,
                                ReadTensor(name + ".bias", {num_outputs}));
      dense.bias.insert(dense.bias.end(), bias.begin(), bias.end());
    }
    const auto read_rows = [&](int64_t begin, int64_t end, float* target) {
      std::copy(rows.begin() + begin * num_inputs, rows.begin() + end * num_inputs, target);
      return Status::Ok();
    };
    INTARSIA_ASSIGN_OR_RETURN(dense.weight,
                              PackedMatrix::Pack(num_outputs * static_cast<int64_t>(names.size()),
                                                 num_inputs, compute_, read_rows, pool_));
    return dense;
  }

  Result<Layer> ReadLayer(int32_t index) const {
    const std::string name = "encoder.layer." + std::to_string(index) + ".";
    const int64_t hidden = config_.hidden_size;
    const std::string self = name + "attention.self.";
    Layer layer;
    INTARSIA_ASSIGN_OR_RETURN(
        layer.qkv, ReadDense({self + "query", self + "key", self + "value"}, hidden, hidden));
    INTARSIA_ASSIGN_OR_RETURN(layer.attention_output,
                              ReadDense({name + "attention.output.dense"}, hidden, hidden));
    INTARSIA_ASSIGN_OR_RETURN(layer.attention_norm, ReadNorm(name + "attention.output.LayerNorm"));
    INTARSIA_ASSIGN_OR_RETURN(layer.ffn_up,
                              ReadDense({name + "intermediate.dense"}, config_.ffn_size, hidden));
    INTARSIA_ASSIGN_OR_RETURN(layer.ffn_down,
                              ReadDense({name + "output.dense"}, hidden, config_.ffn_size));
    INTARSIA_ASSIGN_OR_RETURN(layer.ffn_norm, ReadNorm(name + "output.LayerNorm"));
    return layer;
  }

 private:
  const SafetensorsFile& file_;
  const BertConfig& config_;
  const ComputeType compute_;
  ThreadPool* const pool_;
  const std::string prefix_;
};

}  // namespace

class Bert::Weights {
 public:
  static Result<std::unique_ptr<const Weights>> Load(const Loader& loader, const BertConfig& config,
                                                     ComputeType compute) {
    auto weights = std::make_unique<Weights>();
    weights->compute = compute;
    INTARSIA_ASSIGN_OR_RETURN(weights->words,
                              loader.ReadTensor("embeddings.word_embeddings.weight",
                                                {config.vocab_size, config.hidden_size}));
    INTARSIA_ASSIGN_OR_RETURN(weights->positions,
                              loader.ReadTensor("embeddings.position_embeddings.weight",
                                                {config.num_positions, config.hidden_size}));
    INTARSIA_ASSIGN_OR_RETURN(weights->segments,
                              loader.ReadTensor("embeddings.token_type_embeddings.weight",
                                                {config.num_segments, config.hidden_size}));
    INTARSIA_ASSIGN_OR_RETURN(weights->norm, loader.ReadNorm("embeddings.LayerNorm"));
    for (int32_t index = 0; index < config.num_layers; ++index) {
      INTARSIA_ASSIGN_OR_RETURN(Layer layer, loader.ReadLayer(index));
      weights->layers.push_back(std::move(layer));
    }
    return std::unique_ptr<const Weights>(std::move(weights));
  }

  ComputeType compute = ComputeType::kF32;
  std::vector<float> words;      // [vocab_size, hidden_size]
  std::vector<float> positions;  // [num_positions, hidden_size]
  std::vector<float> segments;   // [num_segments, hidden_size]
  Norm norm;
  std::vector<Layer> layers;
};

// One forward pass: the rows on their way through the layers.
class Bert::Run {
 public:
  Run(const Bert& bert, std::span<const int64_t> row_begins, float* hidden, ThreadPool* pool)
      : config_(bert.config_),
        weights_(*bert.weights_),
        row_begins_(row_begins),
        num_rows_(row_begins.back()),
        hidden_(hidden),
        pool_(pool) {}

  // Before anything else. Errors: kResourceExhausted.
  Status Allocate() {
    const int64_t hidden = num_rows_ * config_.hidden_size;
    const int64_t ffn = num_rows_ * config_.ffn_size;
    const bool is_bf16 = weights_.compute == ComputeType::kBf16;
    using Floats = AlignedArray<float>;
    using Rounded = AlignedArray<uint16_t>;
    INTARSIA_ASSIGN_OR_RETURN(rounded_, Rounded::TryCreate(is_bf16 ? hidden : 0));
    INTARSIA_ASSIGN_OR_RETURN(qkv_, Floats::TryCreate(3 * hidden));
    INTARSIA_ASSIGN_OR_RETURN(context_, Floats::TryCreate(is_bf16 ? 0 : hidden));
    INTARSIA_ASSIGN_OR_RETURN(context_rounded_, Rounded::TryCreate(is_bf16 ? hidden : 0));
    INTARSIA_ASSIGN_OR_RETURN(sum_, Floats::TryCreate(hidden));
    INTARSIA_ASSIGN_OR_RETURN(up_, Floats::TryCreate(ffn));
    INTARSIA_ASSIGN_OR_RETURN(up_rounded_, Rounded::TryCreate(is_bf16 ? ffn : 0));
    return Status::Ok();
  }

  Status Embed(const BertInput& input) {
    const std::span<const int32_t> ids = input.ids;
    const int64_t dim = config_.hidden_size;
    pool_->ParallelFor(static_cast<int64_t>(row_begins_.size()) - 1, [&](int64_t text, int) {
      const int64_t begin = row_begins_[static_cast<size_t>(text)];
      const int64_t end = row_begins_[static_cast<size_t>(text) + 1];
      const int64_t second =
          input.second_begins.empty() ? end : input.second_begins[static_cast<size_t>(text)];
      for (int64_t row = begin; row < end; ++row) {
        const float* const word = weights_.words.data() + ids[static_cast<size_t>(row)] * dim;
        const float* const position = weights_.positions.data() + (row - begin) * dim;
        const float* const segment = weights_.segments.data() + (row < second ? 0 : dim);
        for (int64_t i = 0; i < dim; ++i) {
          hidden_[row * dim + i] = word[i] + segment[i] + position[i];
        }
      }
    });
    return Normalize(nullptr, weights_.norm);
  }

  Status RunLayer(const Layer& layer) {
    const int64_t head_dim = config_.hidden_size / config_.num_heads;
    INTARSIA_RETURN_IF_ERROR(Multiply(layer.qkv, hidden_, rounded_.data(), qkv_.data()));
    INTARSIA_RETURN_IF_ERROR(
        kernels::BidirectionalAttention({.qkv = qkv_.data(),
                                         .row_begins = row_begins_.data(),
                                         .num_texts = static_cast<int64_t>(row_begins_.size()) - 1,
                                         .num_heads = config_.num_heads,
                                         .head_dim = static_cast<int32_t>(head_dim),
                                         .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                                         .y = context_.data(),
                                         .y_bf16 = context_rounded_.data()},
                                        pool_));
    INTARSIA_RETURN_IF_ERROR(
        Multiply(layer.attention_output, context_.data(), context_rounded_.data(), sum_.data()));
    INTARSIA_RETURN_IF_ERROR(Normalize(sum_.data(), layer.attention_norm));

    INTARSIA_RETURN_IF_ERROR(Multiply(layer.ffn_up, hidden_, rounded_.data(), up_.data()));
    const bool is_rounded = up_rounded_.data() != nullptr;
    INTARSIA_RETURN_IF_ERROR(kernels::Activate({.kind = config_.activation,
                                                .x = up_.data(),
                                                .y = is_rounded ? nullptr : up_.data(),
                                                .y_bf16 = up_rounded_.data(),
                                                .num_rows = num_rows_,
                                                .dim = config_.ffn_size},
                                               pool_));
    INTARSIA_RETURN_IF_ERROR(Multiply(layer.ffn_down, up_.data(), up_rounded_.data(), sum_.data()));
    return Normalize(sum_.data(), layer.ffn_norm);
  }

 private:
  // Takes the bf16 rows where there are any.
  Status Multiply(const Dense& dense, const float* x, const uint16_t* x_bf16, float* y) const {
    return kernels::MatMul(*dense.weight,
                           {.x = x_bf16 == nullptr ? x : nullptr,
                            .x_bf16 = x_bf16,
                            .bias = dense.bias.data(),
                            .y = y,
                            .num_rows = num_rows_},
                           pool_);
  }

  // hidden = norm(hidden + addend); `addend` may be null.
  Status Normalize(const float* addend, const Norm& norm) {
    return kernels::LayerNorm({.x = hidden_,
                               .addend = addend,
                               .gain = norm.gain.data(),
                               .bias = norm.bias.data(),
                               .y = hidden_,
                               .y_bf16 = rounded_.data(),
                               .num_rows = num_rows_,
                               .dim = config_.hidden_size,
                               .epsilon = config_.norm_epsilon},
                              pool_);
  }

  const BertConfig& config_;
  const Weights& weights_;
  const std::span<const int64_t> row_begins_;
  const int64_t num_rows_;
  float* const hidden_;
  ThreadPool* const pool_;
  AlignedArray<uint16_t> rounded_;  // hidden_ in bf16, empty for f32 products
  AlignedArray<float> qkv_;
  AlignedArray<float> context_;  // empty for bf16 products
  AlignedArray<uint16_t> context_rounded_;
  AlignedArray<float> sum_;  // what a block adds to hidden_
  AlignedArray<float> up_;
  AlignedArray<uint16_t> up_rounded_;
};

Bert::Bert(const BertConfig& config, std::unique_ptr<const Weights> weights)
    : config_(config), weights_(std::move(weights)) {}
Bert::~Bert() = default;

Result<std::unique_ptr<Bert>> Bert::Load(const SafetensorsFile& file, const BertConfig& config,
                                         ComputeType compute, ThreadPool* pool) {
  const Loader loader(file, config, compute, pool);
  INTARSIA_ASSIGN_OR_RETURN(auto weights, Weights::Load(loader, config, compute));
  return std::unique_ptr<Bert>(new Bert(config, std::move(weights)));
}

Status Bert::Forward(const BertInput& input, float* hidden, ThreadPool* pool) const {
  const std::span<const int32_t> ids = input.ids;
  const std::span<const int64_t> row_begins = input.row_begins;
  INTARSIA_CHECK(!row_begins.empty() && row_begins.front() == 0);
  INTARSIA_CHECK(row_begins.back() == static_cast<int64_t>(ids.size()));
  INTARSIA_CHECK(input.second_begins.empty() ||
                 input.second_begins.size() + 1 == row_begins.size());
  if (ids.empty()) return Status::Ok();
  if (!input.second_begins.empty() && config_.num_segments < 2) {
    return {StatusCode::kInvalidArgument, "model knows one segment only, and there are two texts"};
  }
  for (size_t text = 1; text < row_begins.size(); ++text) {
    const int64_t length = row_begins[text] - row_begins[text - 1];
    INTARSIA_CHECK(length >= 0);
    if (length > config_.num_positions) {
      return {StatusCode::kInvalidArgument,
              "text has more tokens than positions: tokens=" + std::to_string(length) +
                  " positions=" + std::to_string(config_.num_positions)};
    }
  }
  for (const int32_t id : ids) {
    if (id < 0 || id >= config_.vocab_size) {
      return {StatusCode::kInvalidArgument,
              "token is outside the vocabulary: id=" + std::to_string(id) +
                  " size=" + std::to_string(config_.vocab_size)};
    }
  }
  Run run(*this, row_begins, hidden, pool);
  INTARSIA_RETURN_IF_ERROR(run.Allocate());
  INTARSIA_RETURN_IF_ERROR(run.Embed(input));
  for (const Layer& layer : weights_->layers) INTARSIA_RETURN_IF_ERROR(run.RunLayer(layer));
  return Status::Ok();
}

}  // namespace intarsia::model
