// SentencePieceTokenizer: BPE by scores over characters, the tokenizer of Llama 2 and Gemma.
//
// A blank is the character U+2581. Of all neighbouring pieces that together are a token, the pair
// whose token has the highest score is joined first, the leftmost among equals. A character without
// a token becomes its bytes. Text needs no words for this; but where no token of the vocabulary can
// reach across a blank, it is cut there, which changes nothing and keeps the queue short.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/vocabulary.h"

namespace intarsia::model {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // `scores` [spec.texts.size()].
  // Errors: kCorruption if a score is not a number; those of Vocabulary::Create.
  static Result<std::unique_ptr<Tokenizer>> Create(const VocabularySpec& spec,
                                                   std::span<const double> scores);

 private:
  struct Symbol;
  class Merger;

  SentencePieceTokenizer(std::unique_ptr<const Vocabulary> vocabulary, std::vector<float> scores);

  void EncodeFragment(std::string_view text, int64_t offset, TokenSink* sink) const override;
  void EncodeWord(std::string_view word, bool has_prefix, int64_t offset, TokenSink* sink) const;
  int64_t EndOfWord(std::string_view text, int64_t begin) const;
  void AddBytes(std::string_view bytes, TokenRange range, TokenSink* sink) const;

  // Immutable after construction.
  std::vector<float> scores_;
  std::vector<int32_t> ids_of_bytes_;       // [256], kNoToken where there is none.
  std::vector<bool> reaches_across_blank_;  // [256]: a token has this byte before an inner blank.
  int64_t token_bytes_max_ = 0;
};

}  // namespace intarsia::model
