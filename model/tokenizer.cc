#include "model/tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"
#include "model/token_sink.h"
#include "model/vocabulary.h"

namespace intarsia::model {
namespace {

constexpr size_t kTextBytesMax = size_t{1} << 30;

Status CheckTextSize(std::string_view text) {
  if (text.size() <= kTextBytesMax) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "text is too long to tokenize at once: bytes=" + std::to_string(text.size()) +
                    " max=" + std::to_string(kTextBytesMax));
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)) {}

Tokenizer::~Tokenizer() = default;

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                               SpecialTokens special_tokens) const {
  INTARSIA_RETURN_IF_ERROR(CheckTextSize(text));
  std::string repaired;
  if (FindInvalidUtf8(text) >= 0) {
    repaired = RepairUtf8(text, nullptr);
    text = repaired;
  }
  TokenSink sink(TokenRanges::kOmit);
  EncodeWellFormed(text, special_tokens, &sink);
  return std::move(sink).Take().ids;
}

Result<EncodedText> Tokenizer::EncodeWithRanges(std::string_view text) const {
  INTARSIA_RETURN_IF_ERROR(CheckTextSize(text));
  if (const int64_t offset = FindInvalidUtf8(text); offset >= 0) {
    return Status(StatusCode::kInvalidArgument,
                  "text is not well-formed UTF-8: offset=" + std::to_string(offset));
  }
  TokenSink sink(TokenRanges::kKeep);
  EncodeWellFormed(text, SpecialTokens::kAsText, &sink);
  return std::move(sink).Take();
}

void Tokenizer::EncodeWellFormed(std::string_view text, SpecialTokens special_tokens,
                                 TokenSink* sink) const {
  vocabulary_->Partition(text, special_tokens, [&](TokenRange range, int32_t id) {
    if (id != kNoToken) return sink->Add(id, range.begin, range.end);
    EncodeFragment(
        text.substr(static_cast<size_t>(range.begin), static_cast<size_t>(range.end - range.begin)),
        range.begin, sink);
  });
}

Result<std::string> Tokenizer::Decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      return Status(StatusCode::kInvalidArgument,
                    "token id is outside the vocabulary: id=" + std::to_string(id) +
                        " size=" + std::to_string(vocab_size()));
    }
  }
  std::string text = JoinPieces(ids);
  return FindInvalidUtf8(text) < 0 ? text : RepairUtf8(text, nullptr);
}

std::string Tokenizer::JoinPieces(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text.append(Piece(id));
  if (adds_space_prefix() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string_view Tokenizer::Piece(int32_t id) const {
  INTARSIA_CHECK(id >= 0 && id < vocab_size());
  return vocabulary_->piece(id);
}

std::string_view Tokenizer::TokenText(int32_t id) const {
  INTARSIA_CHECK(id >= 0 && id < vocab_size());
  return vocabulary_->text(id);
}

int32_t Tokenizer::FindToken(std::string_view token_text) const {
  return vocabulary_->Find(token_text);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  INTARSIA_CHECK(id >= 0 && id < vocab_size());
  return vocabulary_->is_special(id);
}

bool Tokenizer::IsStop(int32_t id) const {
  const auto& stops = vocabulary_->stop_ids();
  return std::binary_search(stops.begin(), stops.end(), id);
}

int64_t Tokenizer::vocab_size() const { return vocabulary_->size(); }
int32_t Tokenizer::bos_id() const { return vocabulary_->bos_id(); }
int32_t Tokenizer::eos_id() const { return vocabulary_->eos_id(); }
int32_t Tokenizer::eot_id() const { return vocabulary_->eot_id(); }
int32_t Tokenizer::unk_id() const { return vocabulary_->unk_id(); }
std::span<const int32_t> Tokenizer::stop_ids() const { return vocabulary_->stop_ids(); }
bool Tokenizer::adds_bos() const { return vocabulary_->adds_bos(); }
bool Tokenizer::adds_space_prefix() const { return vocabulary_->adds_space_prefix(); }
const Digest& Tokenizer::digest() const { return vocabulary_->digest(); }

}  // namespace intarsia::model
