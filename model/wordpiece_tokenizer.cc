#include "model/wordpiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <utf8proc.h>

#include "base/utf8.h"
#include "model/code_point_class.h"
#include "model/token_sink.h"
#include "model/vocabulary.h"

namespace intarsia::model {
namespace {

constexpr size_t kWordCharactersMax = 100;
constexpr std::string_view kContinuation = "##";
constexpr utf8proc_int32_t kCapitalIWithDot = 0x130;
constexpr utf8proc_int32_t kCombiningDot = 0x307;

bool IsCjk(char32_t value) {
  // The reference writes 2B920 for the block that begins at 2B820.
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kRanges = {{{0x4E00, 0x9FFF},
                                                                     {0x3400, 0x4DBF},
                                                                     {0x20000, 0x2A6DF},
                                                                     {0x2A700, 0x2B73F},
                                                                     {0x2B740, 0x2B81F},
                                                                     {0x2B920, 0x2CEAF},
                                                                     {0xF900, 0xFAFF},
                                                                     {0x2F800, 0x2FA1F}}};
  return std::any_of(kRanges.begin(), kRanges.end(), [&](const auto& range) {
    return value >= range.first && value <= range.second;
  });
}

// The reference removes control characters before it looks for white space, so a form feed joins
// words.
bool IsDropped(char32_t value) {
  if (value == '\t' || value == '\n' || value == '\r') return false;
  if (value == 0 || value == 0xFFFD) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      return true;
    default:
      return false;
  }
}

// A word of its own: punctuation in the sense of BERT, which includes all of ASCII's symbols.
bool IsBertPunctuation(char32_t value) {
  const bool is_ascii = value < 0x80;
  if (!is_ascii) return IsPunctuation(value);
  return (value >= '!' && value <= '/') || (value >= ':' && value <= '@') ||
         (value >= '[' && value <= '`') || (value >= '{' && value <= '~');
}

}  // namespace

// A character of the normalised text, and the bytes of the original from which it came.
struct WordPieceTokenizer::Character {
  char32_t value;
  bool is_word;  // On its own.
  TokenRange range;
};

Result<std::unique_ptr<WordPieceTokenizer>> WordPieceTokenizer::Load(
    std::string_view vocab_text, const WordPieceOptions& options) {
  VocabularySpec spec;
  while (!vocab_text.empty()) {
    const size_t end = std::min(vocab_text.find('\n'), vocab_text.size());
    std::string_view line = vocab_text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    spec.texts.push_back(line);
    vocab_text.remove_prefix(std::min(end + 1, vocab_text.size()));
  }
  const std::array<std::string_view, 5> special = {options.unk_token, options.cls_token,
                                                   options.sep_token, options.pad_token,
                                                   options.mask_token};
  for (const std::string_view text : spec.texts) {
    const bool is_special = std::find(special.begin(), special.end(), text) != special.end();
    spec.types.push_back(is_special ? TokenType::kControl : TokenType::kNormal);
  }
  for (size_t i = 0; i < 3; ++i) {
    const auto found = std::find(spec.texts.begin(), spec.texts.end(), special[i]);
    if (found == spec.texts.end()) {
      return Status(StatusCode::kCorruption,
                    "special token is not in the vocabulary: " + std::string(special[i]));
    }
    if (i == 0) spec.unk_id = static_cast<int32_t>(found - spec.texts.begin());
  }
  DigestBuilder salt;
  salt.Add("wordpiece 1").Add(int64_t{options.lower_case}).Add(int64_t{options.strip_accents});
  salt.Add(int64_t{options.split_cjk});
  for (const std::string_view name : special) salt.Add(name);
  INTARSIA_ASSIGN_OR_RETURN(auto vocabulary, Vocabulary::Create(spec, salt.Finish()));
  return std::unique_ptr<WordPieceTokenizer>(
      new WordPieceTokenizer(std::move(vocabulary), options));
}

WordPieceTokenizer::WordPieceTokenizer(std::unique_ptr<const Vocabulary> vocabulary,
                                       const WordPieceOptions& options)
    : Tokenizer(std::move(vocabulary)),
      options_(options),
      cls_id_(FindToken(options.cls_token)),
      sep_id_(FindToken(options.sep_token)) {
  for (int32_t id = 0; id < this->vocabulary().size(); ++id) {
    token_bytes_max_ = std::max(token_bytes_max_, this->vocabulary().text(id).size());
  }
}

Result<std::vector<int32_t>> WordPieceTokenizer::EncodeSequence(std::string_view text,
                                                                int64_t max_tokens) const {
  if (max_tokens < 2) {
    return Status(StatusCode::kInvalidArgument,
                  "a sequence has at least 2 tokens: max_tokens=" + std::to_string(max_tokens));
  }
  INTARSIA_ASSIGN_OR_RETURN(auto ids, Encode(text, SpecialTokens::kAsText));
  const size_t length = std::min(ids.size(), static_cast<size_t>(max_tokens - 2));
  ids.resize(length);
  ids.insert(ids.begin(), cls_id_);
  ids.push_back(sep_id_);
  return ids;
}

Result<std::vector<int32_t>> WordPieceTokenizer::EncodePair(std::string_view first,
                                                            std::string_view second,
                                                            int64_t max_tokens,
                                                            int64_t* num_first) const {
  if (max_tokens < 3) {
    return Status(StatusCode::kInvalidArgument,
                  "a pair has at least 3 tokens: max_tokens=" + std::to_string(max_tokens));
  }
  INTARSIA_ASSIGN_OR_RETURN(auto ids, Encode(first, SpecialTokens::kAsText));
  INTARSIA_ASSIGN_OR_RETURN(auto second_ids, Encode(second, SpecialTokens::kAsText));
  const auto room = static_cast<size_t>(max_tokens - 3);
  if (ids.size() + second_ids.size() > room) {
    // The longer one gives way until they are equally long, then both.
    const size_t shorter = std::min({ids.size(), second_ids.size(), room / 2});
    auto& longer_ids = ids.size() > second_ids.size() ? ids : second_ids;
    auto& shorter_ids = ids.size() > second_ids.size() ? second_ids : ids;
    shorter_ids.resize(shorter);
    longer_ids.resize(room - shorter);
  }
  ids.insert(ids.begin(), cls_id_);
  ids.push_back(sep_id_);
  if (num_first != nullptr) *num_first = static_cast<int64_t>(ids.size());
  ids.insert(ids.end(), second_ids.begin(), second_ids.end());
  ids.push_back(sep_id_);
  return ids;
}

// Cuts normalised characters into words and spells each as soon as it is whole.
class WordPieceTokenizer::WordBuilder {
 public:
  WordBuilder(const WordPieceTokenizer* tokenizer, TokenSink* sink)
      : tokenizer_(*tokenizer), sink_(sink) {}

  void Add(const Character& character) {
    if (character.is_word) Finish();
    if (word_.size() <= kWordCharactersMax) {
      word_.push_back(character);
    } else {  // Unknown, however it goes on.
      word_.back().range.end = character.range.end;
    }
    if (character.is_word) Finish();
  }

  void Finish() {
    if (!word_.empty()) tokenizer_.EncodeWord(word_, &scratch_, sink_);
    word_.clear();
  }

 private:
  const WordPieceTokenizer& tokenizer_;
  TokenSink* sink_;
  std::vector<Character> word_;
  std::string scratch_;
};

void WordPieceTokenizer::Normalize(const CodePoint& code_point, TokenRange range,
                                   WordBuilder* builder) const {
  if (IsDropped(code_point.value)) return;
  std::array<utf8proc_int32_t, 32> decomposed{};
  decomposed[0] = static_cast<utf8proc_int32_t>(code_point.value);
  utf8proc_ssize_t length = 1;
  if (options_.strip_accents && code_point.value >= 0x80) {
    length = utf8proc_decompose_char(decomposed[0], decomposed.data(),
                                     static_cast<utf8proc_ssize_t>(decomposed.size()),
                                     UTF8PROC_DECOMPOSE, nullptr);
  }
  const bool is_cjk = options_.split_cjk && IsCjk(code_point.value);
  const auto add = [&](utf8proc_int32_t signed_value) {
    const auto value = static_cast<char32_t>(signed_value);
    builder->Add({value, is_cjk || IsBertPunctuation(value), range});
  };
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    const utf8proc_int32_t value = decomposed[static_cast<size_t>(i)];
    if (options_.strip_accents && utf8proc_category(value) == UTF8PROC_CATEGORY_MN) continue;
    if (!options_.lower_case) {
      add(value);
    } else if (value == kCapitalIWithDot) {  // The one whose lower case is two characters.
      add('i');
      add(kCombiningDot);
    } else {
      add(utf8proc_tolower(value));
    }
  }
}

void WordPieceTokenizer::EncodeFragment(std::string_view text, int64_t offset,
                                        TokenSink* sink) const {
  WordBuilder builder(this, sink);
  const auto is_blank = [](const CodePoint& code_point) {
    return code_point.category == CodePointClass::kWhiteSpace && !IsDropped(code_point.value);
  };
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t begin = 0; begin < size;) {
    // A stretch between white space at a time, because these are what text repeats.
    int64_t end = begin;
    CodePoint next = ReadCodePoint(text, end);
    for (; next.num_bytes > 0 && !is_blank(next); next = ReadCodePoint(text, end)) {
      end += next.num_bytes;
    }
    const std::string_view stretch =
        text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    if (!stretch.empty() && !sink->Repeat(stretch, offset + begin)) {
      const int64_t first = sink->size();
      for (int64_t at = begin; at < end;) {
        const CodePoint code_point = ReadCodePoint(text, at);
        const int64_t after = at + code_point.num_bytes;
        Normalize(code_point, {offset + at, offset + after}, &builder);
        at = after;
      }
      builder.Finish();
      sink->Remember(stretch, offset + begin, first);
    }
    begin = end + next.num_bytes;
  }
}

void WordPieceTokenizer::EncodeWord(std::span<const Character> word, std::string* scratch,
                                    TokenSink* sink) const {
  const TokenRange whole = {word.front().range.begin, word.back().range.end};
  if (word.size() > kWordCharactersMax) return sink->Add(unk_id(), whole.begin, whole.end);
  std::array<int32_t, kWordCharactersMax> ids{};
  std::array<TokenRange, kWordCharactersMax> ranges{};
  std::array<size_t, kWordCharactersMax + 1> ends{};  // In `scratch`, of the piece up to there.
  size_t num_pieces = 0;
  for (size_t begin = 0; begin < word.size(); ++num_pieces) {
    *scratch = begin == 0 ? std::string_view() : kContinuation;
    size_t end = begin;
    while (end < word.size() && scratch->size() < token_bytes_max_) {
      AppendCodePoint(word[end++].value, scratch);
      ends[end] = scratch->size();
    }
    int32_t id = kNoToken;
    for (; end > begin; --end) {
      id = vocabulary().FindPlain(std::string_view(*scratch).substr(0, ends[end]));
      if (id != kNoToken) break;
    }
    if (id == kNoToken) return sink->Add(unk_id(), whole.begin, whole.end);
    ids[num_pieces] = id;
    ranges[num_pieces] = {word[begin].range.begin, word[end - 1].range.end};
    begin = end;
  }
  for (size_t i = 0; i < num_pieces; ++i) sink->Add(ids[i], ranges[i].begin, ranges[i].end);
}

std::string WordPieceTokenizer::JoinPieces(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    std::string_view piece = Piece(id);
    if (piece.starts_with(kContinuation) && piece.size() > kContinuation.size()) {
      piece.remove_prefix(kContinuation.size());
    } else if (!text.empty() && !piece.empty()) {
      text.push_back(' ');
    }
    text.append(piece);
  }
  return text;
}

}  // namespace intarsia::model
