#include "model/cross_encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/aligned_array.h"
#include "model/bert.h"
#include "model/embedder_config.h"
#include "model/encoder_files.h"
#include "model/safetensors.h"
#include "model/wordpiece_tokenizer.h"

namespace intarsia::model {
namespace {

// The layers behind the encoder: tanh(W x + b) of the first token's state, and one output of it.
struct Head {
  std::vector<float> pooler_weight;  // [hidden_size, hidden_size]
  std::vector<float> pooler_bias;    // [hidden_size]
  std::vector<float> weight;         // [hidden_size]
  float bias = 0.0F;
};

Result<Head> ReadHead(const SafetensorsFile& file, int64_t hidden_size, const std::string& folder) {
  const auto classifier = file.GetTensor("classifier.weight");
  if (!classifier.ok()) {
    return Status(StatusCode::kUnsupported,
                  "model is no cross-encoder: it has no classifier.weight; an embedding model is "
                  "registered as TYPE EMBEDDING: folder=" +
                      folder);
  }
  const std::vector<int64_t>& shape = (*classifier)->shape;
  if (shape.size() != 2 || shape[0] != 1) {
    return Status(StatusCode::kUnsupported, "cross-encoder's head has not one output: outputs=" +
                                                std::to_string(shape.empty() ? 0 : shape[0]) +
                                                " folder=" + folder);
  }
  const std::string prefix = file.Has("embeddings.word_embeddings.weight") ? "" : "bert.";
  const auto read = [&](const std::string& name,
                        std::initializer_list<int64_t> wanted) -> Result<std::vector<float>> {
    auto values = file.ReadF32(name, std::span(wanted.begin(), wanted.size()));
    if (values.status().code() == StatusCode::kNotFound ||
        values.status().code() == StatusCode::kInvalidArgument) {
      return Status(StatusCode::kCorruption, std::string(values.status().message()));
    }
    return values;
  };
  Head head;
  INTARSIA_ASSIGN_OR_RETURN(head.pooler_weight,
                            read(prefix + "pooler.dense.weight", {hidden_size, hidden_size}));
  INTARSIA_ASSIGN_OR_RETURN(head.pooler_bias, read(prefix + "pooler.dense.bias", {hidden_size}));
  INTARSIA_ASSIGN_OR_RETURN(head.weight, read("classifier.weight", {1, hidden_size}));
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> bias, read("classifier.bias", {1}));
  head.bias = bias[0];
  return head;
}

// Pairs as ids, one behind the other.
struct Batch {
  std::vector<int32_t> ids;
  std::vector<int64_t> row_begins = {0};
  std::vector<int64_t> second_begins;
};

class BertCrossEncoder final : public CrossEncoder {
 public:
  BertCrossEncoder(EmbedderConfig config, std::unique_ptr<const WordPieceTokenizer> tokenizer,
                   std::unique_ptr<const Bert> bert, Head head, const Digest& digest,
                   ThreadPool* pool)
      : config_(std::move(config)),
        tokenizer_(std::move(tokenizer)),
        bert_(std::move(bert)),
        head_(std::move(head)),
        digest_(digest),
        pool_(pool) {}

  int32_t max_tokens() const override { return config_.max_tokens; }
  Digest digest() const override { return digest_; }

  Status Score(std::string_view question, std::span<const std::string_view> passages, float* scores,
               const CancelToken* cancel) const override {
    Batch batch;
    size_t done = 0;
    for (const std::string_view passage : passages) {
      int64_t num_first = 0;
      INTARSIA_ASSIGN_OR_RETURN(
          const std::vector<int32_t> ids,
          tokenizer_->EncodePair(question, passage, config_.max_tokens, &num_first));
      if (!batch.ids.empty() && std::ssize(batch.ids) + std::ssize(ids) > kEncoderBatchRowsMax) {
        INTARSIA_RETURN_IF_ERROR(ScoreBatch(std::exchange(batch, {}), scores, &done, cancel));
      }
      batch.second_begins.push_back(std::ssize(batch.ids) + num_first);
      batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
      batch.row_begins.push_back(std::ssize(batch.ids));
    }
    if (batch.ids.empty()) return Status::Ok();
    return ScoreBatch(batch, scores, &done, cancel);
  }

 private:
  Status ScoreBatch(const Batch& batch, float* scores, size_t* done,
                    const CancelToken* cancel) const {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    const int64_t dim = config_.bert.hidden_size;
    INTARSIA_ASSIGN_OR_RETURN(AlignedArray<float> hidden,
                              AlignedArray<float>::TryCreate(std::ssize(batch.ids) * dim));
    INTARSIA_RETURN_IF_ERROR(bert_->Forward(
        {.ids = batch.ids, .row_begins = batch.row_begins, .second_begins = batch.second_begins},
        hidden.data(), pool_));
    for (size_t i = 0; i + 1 < batch.row_begins.size(); ++i) {
      const float score = ScoreOf(hidden.data() + batch.row_begins[i] * dim);
      if (!std::isfinite(score)) {
        return {StatusCode::kCorruption, "cross-encoder's weights give no finite score"};
      }
      scores[(*done)++] = score;
    }
    return Status::Ok();
  }

  // Of the first token's state [hidden_size].
  float ScoreOf(const float* state) const {
    const int64_t dim = config_.bert.hidden_size;
    double score = head_.bias;
    for (int64_t row = 0; row < dim; ++row) {
      double sum = head_.pooler_bias[static_cast<size_t>(row)];
      for (int64_t i = 0; i < dim; ++i) {
        sum += double{head_.pooler_weight[static_cast<size_t>(row * dim + i)]} * double{state[i]};
      }
      score += std::tanh(sum) * double{head_.weight[static_cast<size_t>(row)]};
    }
    return static_cast<float>(score);
  }

  const EmbedderConfig config_;
  const std::unique_ptr<const WordPieceTokenizer> tokenizer_;
  const std::unique_ptr<const Bert> bert_;
  const Head head_;
  const Digest digest_;
  ThreadPool* const pool_;
};

}  // namespace

Result<std::unique_ptr<CrossEncoder>> CrossEncoder::Load(const std::string& folder,
                                                         const EmbedderOptions& options) {
  if (options.pool == nullptr) {
    return Status(StatusCode::kInvalidArgument, "a cross-encoder needs a thread pool");
  }
  INTARSIA_ASSIGN_OR_RETURN(EncoderFiles files, OpenEncoder(folder, options));
  const EmbedderConfig& config = files.config;
  if (config.bert.num_segments < 2 || config.max_tokens < 3) {
    return Status(StatusCode::kUnsupported,
                  "cross-encoder does not tell two texts apart: type_vocab_size=" +
                      std::to_string(config.bert.num_segments) +
                      " max_tokens=" + std::to_string(config.max_tokens) + " folder=" + folder);
  }
  INTARSIA_ASSIGN_OR_RETURN(Head head, ReadHead(*files.weights, config.bert.hidden_size, folder));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<const Bert> bert, LoadEncoder(files, options));
  DigestBuilder builder;
  builder.Add("cross-encoder 2");
  AddEncoder(files, &builder);
  const Digest digest = builder.Add(int64_t{config.max_tokens}).Finish();
  return std::make_unique<BertCrossEncoder>(std::move(files.config), std::move(files.tokenizer),
                                            std::move(bert), std::move(head), digest, options.pool);
}

}  // namespace intarsia::model
