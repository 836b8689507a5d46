// Tokenizer: text to token ids and back, for one vocabulary.
//
// Text comes in two kinds, and the caller says which. User text (documents, questions) is data: no
// part of it ever becomes a special token other than the unknown one, so a document that contains
// "<|im_end|>" cannot end a turn. Template text is ours, and there such names become the tokens
// that they name.
//
// Ill-formed UTF-8 is accepted, and read as RepairUtf8 (base/utf8.h) repairs it.
//
// Thread safety: immutable after construction; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "model/gguf.h"

namespace intarsia::model {

class TokenSink;
class Vocabulary;

// The absence of a token id, for example where a vocabulary has no end-of-turn token.
inline constexpr int32_t kNoToken = -1;

enum class SpecialTokens : uint8_t {
  kAsText,  // User text: the names of special tokens are plain text.
  kParse,   // Template text: the names of special tokens become these tokens.
};

// A range of bytes [begin, end) in the text that was encoded.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const TokenRange&) const = default;
};

struct EncodedText {
  std::vector<int32_t> ids;
  std::vector<TokenRange> ranges;  // [ids.size()], ascending.
};

class Tokenizer {
 public:
  virtual ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`, without any token before or after it. What the vocabulary cannot express
  // becomes its unknown token, but in byte-level BPE nothing: there the unknown token, if any, is
  // one that ends the text. Takes n log n of the text's length.
  // Errors: kInvalidArgument if `text` has more than 1 GiB.
  Result<std::vector<int32_t>> Encode(std::string_view text, SpecialTokens special_tokens) const;

  // As Encode(text, kAsText), with the bytes of `text` that each token stands for. A character that
  // spans several tokens is divided among them, or belongs whole to each (WordPiece).
  // Errors: kInvalidArgument also if `text` is not well-formed UTF-8, because offsets would shift.
  Result<EncodedText> EncodeWithRanges(std::string_view text) const;

  // The text of `ids`; special tokens contribute nothing. Always well-formed UTF-8: bytes that
  // belong to no code point become U+FFFD. The inverse of Encode on well-formed user text, if the
  // vocabulary has every byte and does not put blanks before text (adds_space_prefix), which come
  // back after tokens that were cut out; not for WordPiece.
  // Errors: kInvalidArgument if an id is outside the vocabulary.
  Result<std::string> Decode(std::span<const int32_t> ids) const;

  // The bytes that `id` contributes to decoded text, which may be part of a code point; empty for a
  // special token. REQUIRES: 0 <= id < vocab_size(). Valid as long as the tokenizer.
  std::string_view Piece(int32_t id) const;
  // The name of `id` as the vocabulary has it, for messages and for special tokens.
  // REQUIRES: 0 <= id < vocab_size(). Valid as long as the tokenizer.
  std::string_view TokenText(int32_t id) const;
  // The id of the token with this name, special or not; kNoToken if there is none.
  int32_t FindToken(std::string_view token_text) const;
  // Whether `id` is a token that user text never produces. REQUIRES: 0 <= id < vocab_size().
  bool IsSpecial(int32_t id) const;
  // Whether generation ends with `id`. Any value is allowed.
  bool IsStop(int32_t id) const;

  int64_t vocab_size() const;
  // Each may be kNoToken.
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t eot_id() const;
  int32_t unk_id() const;
  // Every token that ends generation, ascending: end of sequence, end of turn and their kin.
  std::span<const int32_t> stop_ids() const;
  // Whether a prompt begins with bos_id(), which is then a token.
  bool adds_bos() const;

  // The identity of this tokenizer: kind, vocabulary, merges, scores, types, pre-tokenizer and
  // flags. Tokenizers with equal digests encode equally.
  const Digest& digest() const;

  // Whether decoded text loses one leading space, which Encode put there.
  bool adds_space_prefix() const;

 protected:
  explicit Tokenizer(std::unique_ptr<const Vocabulary> vocabulary);

  const Vocabulary& vocabulary() const { return *vocabulary_; }

  // Appends the tokens of `text`, which is well-formed, is to be read as plain text, and begins at
  // `offset` of the text given to Encode.
  virtual void EncodeFragment(std::string_view text, int64_t offset, TokenSink* sink) const = 0;
  // The text of ids that are known to be in range, before it is repaired.
  virtual std::string JoinPieces(std::span<const int32_t> ids) const;

 private:
  void EncodeWellFormed(std::string_view text, SpecialTokens special_tokens, TokenSink* sink) const;

  std::unique_ptr<const Vocabulary> vocabulary_;
};

// The tokenizer that a model file describes: byte-level BPE (tokenizer.ggml.model "gpt2") with the
// pre-tokenizers gpt-2, smollm, qwen2, llama-bpe and default, or SentencePiece BPE ("llama").
// Nothing of `file` is kept.
// Errors: kNotFound if a key is missing; kInvalidArgument if one has the wrong type; kCorruption if
// the vocabulary contradicts itself; kUnsupported for another kind of tokenizer.
Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const GgufFile& file);

}  // namespace intarsia::model
