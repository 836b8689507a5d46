#include "engine/reranker.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace intarsia::engine {
namespace {

constexpr std::string_view kSystem = "You write questions.";
constexpr std::string_view kUserPrefix = "Passage: ";
constexpr std::string_view kUserSuffix = "\n\nWrite a question that this passage answers.";
// Of a passage; more is cut. What a chunk is about stands at its beginning.
constexpr int64_t kPassageTokensMax = 512;

class CrossEncoderReranker final : public Reranker {
 public:
  explicit CrossEncoderReranker(std::shared_ptr<const RerankModel> model)
      : model_(std::move(model)) {}

  std::string Describe() const override { return "cross-encoder " + model_->info.name; }

  Result<std::vector<float>> Score(std::string_view question, std::span<const std::string> passages,
                                   const CancelToken* cancel) const override {
    const std::vector<std::string_view> views(passages.begin(), passages.end());
    std::vector<float> scores(passages.size());
    INTARSIA_RETURN_IF_ERROR(model_->encoder->Score(question, views, scores.data(), cancel));
    return scores;
  }

 private:
  const std::shared_ptr<const RerankModel> model_;
};

// The mean log-probability of `tokens` [count] by the rows of `logits` [count, vocab_size].
float MeanLogProbability(std::span<const int32_t> tokens, std::span<const float> logits) {
  const size_t vocab_size = logits.size() / tokens.size();
  double sum = 0.0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::span<const float> row = logits.subspan(i * vocab_size, vocab_size);
    const float largest = *std::ranges::max_element(row);
    double total = 0.0;
    for (const float logit : row) total += std::exp(static_cast<double>(logit - largest));
    sum += static_cast<double>(row[static_cast<size_t>(tokens[i])] - largest) - std::log(total);
  }
  return static_cast<float>(sum / static_cast<double>(tokens.size()));
}

class LikelihoodReranker final : public Reranker {
 public:
  explicit LikelihoodReranker(std::shared_ptr<const Generator> generator)
      : generator_(std::move(generator)) {}

  std::string Describe() const override {
    return "question likelihood by " + generator_->info.name;
  }

  Result<std::vector<float>> Score(std::string_view question, std::span<const std::string> passages,
                                   const CancelToken* cancel) const override {
    const model::Tokenizer& tokenizer = *generator_->tokenizer;
    const model::Transformer& transformer = *generator_->transformer;
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<int32_t> header,
                              generator_->chat->EncodeHeader(tokenizer, kSystem, kUserPrefix));
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<int32_t> tail,
                              generator_->chat->EncodeTail(tokenizer, kUserSuffix));
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<int32_t> asked,
                              tokenizer.Encode(question, model::SpecialTokens::kAsText));
    if (asked.empty()) return std::vector<float>(passages.size(), 0.0F);
    const int64_t num_fixed = std::ssize(header) + std::ssize(tail) + std::ssize(asked);
    const int64_t room = transformer.config().context_length - num_fixed;
    if (room < 1) {
      return Status(StatusCode::kInvalidArgument,
                    "the question is too long to rank by: its " + std::to_string(asked.size()) +
                        " tokens leave no room for a passage in the model's context of " +
                        std::to_string(transformer.config().context_length) +
                        "; ask WITH (rerank = 'off')");
    }
    const int64_t passage_max = std::min(kPassageTokensMax, room);
    INTARSIA_ASSIGN_OR_RETURN(
        const std::unique_ptr<model::KvCache> cache,
        model::KvCache::Create(transformer.config(), transformer.kv_type(), num_fixed + passage_max,
                               transformer.memory_pool()));
    // All prompts begin alike; what follows is written over what stood there before.
    INTARSIA_RETURN_IF_ERROR(Forward(header, 0, 1, cache.get(), cancel).status());
    std::vector<float> scores;
    for (const std::string& passage : passages) {
      INTARSIA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                                tokenizer.Encode(passage, model::SpecialTokens::kAsText));
      if (std::ssize(tokens) > passage_max) tokens.resize(static_cast<size_t>(passage_max));
      tokens.insert(tokens.end(), tail.begin(), tail.end());
      // The last token of the question predicts nothing.
      tokens.insert(tokens.end(), asked.begin(), asked.end() - 1);
      INTARSIA_ASSIGN_OR_RETURN(
          const std::vector<float> logits,
          Forward(tokens, std::ssize(header), std::ssize(asked), cache.get(), cancel));
      scores.push_back(MeanLogProbability(asked, logits));
    }
    return scores;
  }

 private:
  Result<std::vector<float>> Forward(std::span<const int32_t> tokens, int64_t begin,
                                     int64_t num_logit_rows, model::KvCache* cache,
                                     const CancelToken* cancel) const {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    return generator_->transformer->Forward({.tokens = tokens,
                                             .positions = positions,
                                             .num_logit_rows = static_cast<int32_t>(num_logit_rows),
                                             .cancel = cancel},
                                            cache);
  }

  const std::shared_ptr<const Generator> generator_;
};

}  // namespace

std::shared_ptr<const Reranker> MakeReranker(std::shared_ptr<const RerankModel> model) {
  return std::make_shared<CrossEncoderReranker>(std::move(model));
}

std::shared_ptr<const Reranker> MakeReranker(std::shared_ptr<const Generator> generator) {
  return std::make_shared<LikelihoodReranker>(std::move(generator));
}

}  // namespace intarsia::engine
