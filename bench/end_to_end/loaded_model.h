// LoadedModel: a model with its tokenizer and a text, and full prefills of it, for the parts of
// prefill_bench.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "base/thread_pool.h"
#include "bench/end_to_end/sample_tokens.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/transformer.h"

namespace intarsia::bench {

struct LoadedModelOptions {
  std::string model;              // a GGUF file
  std::string compute = "auto";   // as the engine would choose; or int8, bf16, f32
  std::string text = "docs";      // a folder whose Markdown files are the text
  int64_t num_sample_tokens = 1;  // of the text
  int num_threads = 0;            // 0: all cores
  std::FILE* out = stdout;        // for people
};

class LoadedModel {
 public:
  // Ends the program with a message if the model or the text cannot be read.
  explicit LoadedModel(const LoadedModelOptions& options);

  const model::GgufFile& file() const { return *file_; }
  const model::Tokenizer& tokenizer() const { return *tokenizer_; }
  const model::Transformer& transformer() const { return *transformer_; }
  const model::ModelConfig& config() const { return transformer_->config(); }
  const SampleTokens& sample() const { return sample_; }
  std::FILE* out() const { return out_; }
  // What one large product reaches here, in FLOP/s.
  double roof() const { return roof_; }
  // The model and the machine, for a report.
  const nlohmann::json& facts() const { return facts_; }

  // The first tokens of the text.
  std::span<const int32_t> Sample(int64_t num_tokens) const {
    return std::span(sample_.ids).first(static_cast<size_t>(num_tokens));
  }
  // Whether the model was made for so many positions; says so if not.
  bool Fits(int64_t num_tokens) const;
  // What must be in memory for a pass over `num_rows` of a prompt, caches of the prompt excluded.
  int64_t PaperBytes(int64_t num_tokens, int64_t num_rows) const;
  // Milliseconds of a prefill from nothing to the logits of the last token.
  double FullPrefill(std::span<const int32_t> tokens) const;

 private:
  std::FILE* const out_;
  ThreadPool pool_;
  std::unique_ptr<model::GgufFile> file_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::unique_ptr<model::Transformer> transformer_;
  SampleTokens sample_;
  double roof_ = 0.0;
  nlohmann::json facts_;
};

}  // namespace intarsia::bench
