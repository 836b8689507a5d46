// WordPieceTokenizer: the tokenizer of BERT, over a vocabulary of words and their "##" endings.
//
// Text is cleaned, lower-cased and stripped of accents, cut at white space, punctuation and CJK
// characters, and each word is spelled by the longest vocabulary entries from left to right. A word
// that cannot be spelled, or has more than 100 characters, is one unknown token. Characters that
// Unicode has defined since the reference's tables were made are classified as Unicode does now.
// Decoding joins words with blanks, so it is readable and not the inverse of encoding.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/code_point_class.h"
#include "model/tokenizer.h"

namespace intarsia::model {

// What tokenizer_config.json says of a BERT tokenizer, where it differs from the usual.
struct WordPieceOptions {
  // Lower-case the text ("do_lower_case").
  bool lower_case = true;
  // Remove accents ("strip_accents"); where the file says null, this follows lower_case.
  bool strip_accents = true;
  // Make each CJK character a word ("tokenize_chinese_chars").
  bool split_cjk = true;
  // Names of the special tokens. The first three must be in the vocabulary.
  std::string unk_token = "[UNK]";
  std::string cls_token = "[CLS]";
  std::string sep_token = "[SEP]";
  std::string pad_token = "[PAD]";
  std::string mask_token = "[MASK]";
};

class WordPieceTokenizer final : public Tokenizer {
 public:
  // `vocab_text` is the content of vocab.txt: a token a line, the line number being its id. It is
  // not kept.
  // Errors: kCorruption for an empty vocabulary, an over-long token or a missing special token.
  static Result<std::unique_ptr<WordPieceTokenizer>> Load(std::string_view vocab_text,
                                                          const WordPieceOptions& options);

  // [CLS], the tokens of `text` as user text, [SEP]: at most `max_tokens` in all, cut at the end of
  // the text. The form in which an encoder reads one text.
  // Errors: those of Encode; kInvalidArgument if `max_tokens` < 2.
  Result<std::vector<int32_t>> EncodeSequence(std::string_view text, int64_t max_tokens) const;

  // The same for two texts: [CLS] first [SEP] second [SEP]. The longer of the two loses tokens
  // first. `num_first`, if not null, receives the number of ids up to and with the first [SEP],
  // which are those of segment 0. Errors: those of Encode; kInvalidArgument if `max_tokens` < 3.
  Result<std::vector<int32_t>> EncodePair(std::string_view first, std::string_view second,
                                          int64_t max_tokens, int64_t* num_first) const;

 private:
  struct Character;
  class WordBuilder;
  WordPieceTokenizer(std::unique_ptr<const Vocabulary> vocabulary, const WordPieceOptions& options);

  void EncodeFragment(std::string_view text, int64_t offset, TokenSink* sink) const override;
  std::string JoinPieces(std::span<const int32_t> ids) const override;
  void Normalize(const CodePoint& code_point, TokenRange range, WordBuilder* builder) const;
  void EncodeWord(std::span<const Character> word, std::string* scratch, TokenSink* sink) const;

  // Immutable after construction.
  WordPieceOptions options_;
  int32_t cls_id_ = kNoToken;
  int32_t sep_id_ = kNoToken;
  size_t token_bytes_max_ = 0;
};

}  // namespace intarsia::model
