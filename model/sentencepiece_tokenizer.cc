#include "model/sentencepiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "model/code_point_class.h"
#include "model/token_sink.h"

namespace intarsia::model {
namespace {

constexpr std::string_view kBlankMark = "\u2581";
constexpr int64_t kWordBytesMax = int64_t{256} << 10;
constexpr int32_t kNumBytes = 256;
constexpr int32_t kNone = -1;

std::string ByteTokenText(int32_t byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto value = static_cast<size_t>(byte);
  return {'<', '0', 'x', kDigits[value >> 4], kDigits[value & 15], '>'};
}

}  // namespace

// A run of characters of a word, in a list; empty once it has been merged away.
struct SentencePieceTokenizer::Symbol {
  int32_t begin;           // In the word with marks for blanks.
  int32_t num_bytes;       // There.
  int32_t num_text_bytes;  // In the text.
  int32_t previous;
  int32_t next;
};

// Merges the symbols of one word.
class SentencePieceTokenizer::Merger {
 public:
  Merger(const SentencePieceTokenizer* tokenizer, std::string_view marked,
         std::vector<Symbol>* symbols)
      : tokenizer_(*tokenizer), marked_(marked), symbols_(*symbols) {}

  void Run() {
    for (int32_t i = 1; i < static_cast<int32_t>(symbols_.size()); ++i) Add(i - 1, i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      Symbol& left = At(candidate.left);
      Symbol& right = At(candidate.right);
      const bool is_current = left.num_bytes > 0 && right.num_bytes > 0 &&
                              left.num_bytes + right.num_bytes == candidate.num_bytes;
      if (!is_current) continue;
      left.num_bytes += right.num_bytes;
      left.num_text_bytes += right.num_text_bytes;
      left.next = right.next;
      right.num_bytes = 0;
      if (left.next != kNone) At(left.next).previous = candidate.left;
      Add(left.previous, candidate.left);
      Add(candidate.left, left.next);
    }
  }

 private:
  struct Candidate {
    float score;
    int32_t left;
    int32_t right;
    int32_t num_bytes;

    bool operator<(const Candidate& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };

  Symbol& At(int32_t index) { return symbols_[static_cast<size_t>(index)]; }

  void Add(int32_t left, int32_t right) {
    if (left == kNone || right == kNone) return;
    const int32_t num_bytes = At(left).num_bytes + At(right).num_bytes;
    if (num_bytes > tokenizer_.token_bytes_max_) return;
    const int32_t id = tokenizer_.vocabulary().FindPlain(
        marked_.substr(static_cast<size_t>(At(left).begin), static_cast<size_t>(num_bytes)));
    if (id == kNoToken) return;
    heap_.push_back({tokenizer_.scores_[static_cast<size_t>(id)], left, right, num_bytes});
    std::push_heap(heap_.begin(), heap_.end());
  }

  const SentencePieceTokenizer& tokenizer_;
  std::string_view marked_;
  std::vector<Symbol>& symbols_;
  std::vector<Candidate> heap_;
};

Result<std::unique_ptr<Tokenizer>> SentencePieceTokenizer::Create(const VocabularySpec& spec,
                                                                  std::span<const double> scores) {
  DigestBuilder salt;
  salt.Add("sentencepiece bpe 1");
  std::vector<float> rounded;
  rounded.reserve(scores.size());
  for (const double score : scores) {
    if (std::isnan(score)) {
      return Status(StatusCode::kCorruption,
                    "token score is not a number: id=" + std::to_string(rounded.size()));
    }
    const auto value = static_cast<float>(score);
    int32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    salt.Add(int64_t{bits});
    rounded.push_back(value);
  }
  INTARSIA_ASSIGN_OR_RETURN(auto vocabulary, Vocabulary::Create(spec, salt.Finish()));
  return std::unique_ptr<Tokenizer>(
      new SentencePieceTokenizer(std::move(vocabulary), std::move(rounded)));
}

SentencePieceTokenizer::SentencePieceTokenizer(std::unique_ptr<const Vocabulary> vocabulary,
                                               std::vector<float> scores)
    : Tokenizer(std::move(vocabulary)),
      scores_(std::move(scores)),
      ids_of_bytes_(kNumBytes, kNoToken),
      reaches_across_blank_(kNumBytes) {
  const Vocabulary& tokens = this->vocabulary();
  for (int32_t byte = 0; byte < kNumBytes; ++byte) {
    int32_t id = tokens.FindPlain(ByteTokenText(byte));
    const char bytes[] = {static_cast<char>(byte)};
    if (id == kNoToken) id = tokens.FindPlain({bytes, 1});
    ids_of_bytes_[static_cast<size_t>(byte)] = id;
  }
  for (int32_t id = 0; id < tokens.size(); ++id) {
    if (tokens.is_special(id)) continue;
    const std::string_view text = tokens.text(id);
    token_bytes_max_ = std::max(token_bytes_max_, static_cast<int64_t>(text.size()));
    for (size_t at = text.find(kBlankMark, 1); at != std::string_view::npos;
         at = text.find(kBlankMark, at + 1)) {
      if (text.substr(0, at).ends_with(kBlankMark)) continue;
      reaches_across_blank_[static_cast<uint8_t>(text[at - 1])] = true;
    }
  }
}

// The end of the word that begins at `begin`: before a blank across which no token reaches.
int64_t SentencePieceTokenizer::EndOfWord(std::string_view text, int64_t begin) const {
  const auto first = static_cast<size_t>(begin);
  const size_t limit = std::min(text.size(), first + static_cast<size_t>(kWordBytesMax));
  for (size_t at = first + 1; at < limit; ++at) {
    // A mark in the text itself is a blank too; its first byte is compared, which suffices to keep
    // a run of blanks together.
    if (text[at] != ' ' || text[at - 1] == ' ') continue;
    if (text.substr(0, at).ends_with(kBlankMark)) continue;
    if (!reaches_across_blank_[static_cast<uint8_t>(text[at - 1])]) {
      return static_cast<int64_t>(at);
    }
  }
  if (limit == text.size()) return static_cast<int64_t>(limit);
  // Too long: cut where a code point begins.
  size_t end = limit;
  while (end > first + 1 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return static_cast<int64_t>(end);
}

void SentencePieceTokenizer::EncodeFragment(std::string_view text, int64_t offset,
                                            TokenSink* sink) const {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t begin = 0, end = 0; begin < size; begin = end) {
    end = EndOfWord(text, begin);
    const std::string_view word =
        text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    // Each fragment begins the text or follows a special token.
    const bool has_prefix = begin == 0 && adds_space_prefix();
    if (has_prefix) {
      EncodeWord(word, has_prefix, offset, sink);
    } else if (!sink->Repeat(word, offset + begin)) {
      const int64_t first = sink->size();
      EncodeWord(word, has_prefix, offset + begin, sink);
      sink->Remember(word, offset + begin, first);
    }
  }
}

void SentencePieceTokenizer::EncodeWord(std::string_view word, bool has_prefix, int64_t offset,
                                        TokenSink* sink) const {
  std::string marked;
  std::vector<Symbol> symbols;
  marked.reserve(word.size() + kBlankMark.size());
  symbols.reserve(word.size());
  const auto add = [&](std::string_view bytes, int32_t num_text_bytes) {
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({static_cast<int32_t>(marked.size()), static_cast<int32_t>(bytes.size()),
                       num_text_bytes, index - 1, index + 1});
    marked.append(bytes);
  };
  if (has_prefix) add(kBlankMark, 0);
  for (size_t i = 0; i < word.size();) {
    const int32_t num_bytes = ReadCodePoint(word, static_cast<int64_t>(i)).num_bytes;
    const auto length = static_cast<size_t>(num_bytes);
    add(word[i] == ' ' ? kBlankMark : word.substr(i, length), num_bytes);
    i += length;
  }
  if (symbols.empty()) return;
  symbols.back().next = kNone;
  Merger(this, marked, &symbols).Run();
  for (int32_t i = 0; i != kNone; i = symbols[static_cast<size_t>(i)].next) {
    const Symbol& symbol = symbols[static_cast<size_t>(i)];
    const std::string_view bytes = std::string_view(marked).substr(
        static_cast<size_t>(symbol.begin), static_cast<size_t>(symbol.num_bytes));
    const TokenRange range = {offset, offset + symbol.num_text_bytes};
    const int32_t id = vocabulary().FindPlain(bytes);
    if (id != kNoToken) {
      sink->Add(id, range.begin, range.end);
    } else {
      AddBytes(bytes, range, sink);
    }
    offset = range.end;
  }
}

void SentencePieceTokenizer::AddBytes(std::string_view bytes, TokenRange range,
                                      TokenSink* sink) const {
  const bool has_all = std::all_of(bytes.begin(), bytes.end(), [&](char byte) {
    return ids_of_bytes_[static_cast<uint8_t>(byte)] != kNoToken;
  });
  if (!has_all) {
    if (unk_id() != kNoToken) sink->Add(unk_id(), range.begin, range.end);
    return;
  }
  for (const char byte : bytes) {
    const int64_t begin = std::min(range.begin, range.end);
    range.begin = std::min(range.begin + 1, range.end);
    sink->Add(ids_of_bytes_[static_cast<uint8_t>(byte)], begin, range.begin);
  }
}

}  // namespace intarsia::model
