// BpeTokenizer: byte-level BPE, the tokenizer of GPT-2, Llama 3, Qwen and SmolLM.
//
// Text is cut into words by the model's PreTokenizer, and each word's bytes are merged by rank. A
// word is bounded: beyond 256 KiB, which no text in a language reaches, it is cut.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "model/bpe_merges.h"
#include "model/pre_tokenizer.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

namespace intarsia::model {

class BpeTokenizer final : public Tokenizer {
 public:
  // Errors: those of BpeMerges::Parse and Vocabulary::Create.
  static Result<std::unique_ptr<Tokenizer>> Create(const VocabularySpec& spec,
                                                   std::span<const std::string_view> merges,
                                                   PreTokenizer pre_tokenizer);

 private:
  BpeTokenizer(std::unique_ptr<const Vocabulary> vocabulary, BpeMerges merges,
               PreTokenizer pre_tokenizer);

  void EncodeFragment(std::string_view text, int64_t offset, TokenSink* sink) const override;
  void EncodeWord(std::string_view word, int64_t offset, TokenSink* sink) const;

  // Immutable after construction.
  BpeMerges merges_;
  std::vector<int32_t> ids_;  // [merges_.num_symbols()]: the token of a symbol, or kNoToken.
  PreTokenizer pre_tokenizer_;
};

}  // namespace intarsia::model
