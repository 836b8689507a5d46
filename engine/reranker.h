// Reranker: how well chunks answer a question, by a model that reads both.
//
// Searches compare a question with what was computed of each chunk beforehand. For a few of the
// best it pays to read question and chunk together, with a cross-encoder, or with a generator that
// says how likely the question is behind the chunk ("query likelihood", Sachan et al. 2022, section
// 2.2).
//
// Thread safety: immutable; Score may be called concurrently.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/model_registry.h"

namespace intarsia::engine {

class Reranker {
 public:
  virtual ~Reranker() = default;

  // For EXPLAIN: "cross-encoder ce".
  virtual std::string Describe() const = 0;

  // One score for each passage, higher for those that answer the question better.
  // Errors: kCancelled; kInvalidArgument for a question that is too long for the model; what the
  // model returns.
  virtual Result<std::vector<float>> Score(std::string_view question,
                                           std::span<const std::string> passages,
                                           const CancelToken* cancel) const = 0;
};

// Scores are the logits of the model's head.
std::shared_ptr<const Reranker> MakeReranker(std::shared_ptr<const RerankModel> model);
// Scores are the mean log-probability of the question's tokens, which is below 0.
std::shared_ptr<const Reranker> MakeReranker(std::shared_ptr<const Generator> generator);

}  // namespace intarsia::engine
