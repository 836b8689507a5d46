// CrossEncoder: how well passages answer a question, by a model that reads both together.
//
// Loads a BERT with a classification head of one output in safetensors, in the layout of the
// ms-marco-MiniLM rerankers: the encoder, a pooler over the first token and a classifier. What it
// gives is the logit; only the order of a question's passages means something.
//
// Thread safety: immutable after Load; Score may be called concurrently.
// Lifetime: the thread pool must outlive it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "base/hash.h"
#include "base/result.h"
#include "model/embedder.h"

namespace intarsia::model {

class CrossEncoder {
 public:
  virtual ~CrossEncoder() = default;

  // Loads the model in `folder`: config.json, model.safetensors, vocab.txt and, where present,
  // tokenizer_config.json.
  // Errors: those of Embedder::Load; kUnsupported for a model without such a head.
  static Result<std::unique_ptr<CrossEncoder>> Load(const std::string& folder,
                                                    const EmbedderOptions& options);

  // Tokens of question and passage that take part, the three special ones included.
  virtual int32_t max_tokens() const = 0;
  // Names everything that a score depends on but the arithmetic's rounding.
  virtual Digest digest() const = 0;

  // Writes a score for each passage to `scores` [passages.size()]. Of a pair that is too long, the
  // longer text is cut at its end. Ill-formed UTF-8 counts as U+FFFD. `cancel` may be null and is
  // looked at between batches.
  // Errors: kCancelled; kCorruption if the weights give no finite score; kInvalidArgument for a
  // text of more than 1 GiB; kResourceExhausted. `scores` is unspecified then.
  virtual Status Score(std::string_view question, std::span<const std::string_view> passages,
                       float* scores, const CancelToken* cancel) const = 0;
};

}  // namespace intarsia::model
