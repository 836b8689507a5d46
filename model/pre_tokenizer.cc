#include "model/pre_tokenizer.h"

#include <array>
#include <utility>

#include "model/code_point_class.h"

namespace intarsia::model {
namespace {

enum class LetterCase : uint8_t { kRespect, kIgnore };

std::string_view Slice(std::string_view text, int64_t begin, int64_t end) {
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// The end of the run of code points of `category` that begins at `begin`.
int64_t EndOfRun(std::string_view text, int64_t begin, CodePointClass category) {
  for (CodePoint next = ReadCodePoint(text, begin); next.category == category;
       next = ReadCodePoint(text, begin)) {
    begin += next.num_bytes;
  }
  return begin;
}

// The length of 's, 't, 'm, 'd, 're, 've or 'll at `begin`, or 0.
int64_t ContractionLength(std::string_view text, int64_t begin, LetterCase letter_case) {
  const auto letter = [&](int64_t offset) {
    const auto i = static_cast<size_t>(begin + offset);
    if (i >= text.size()) return '\0';
    const char byte = text[i];
    const bool is_upper = byte >= 'A' && byte <= 'Z';
    return is_upper && letter_case == LetterCase::kIgnore ? static_cast<char>(byte + 'a' - 'A')
                                                          : byte;
  };
  if (letter(0) != '\'') return 0;
  const char first = letter(1);
  const char second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

// The end of the word of white space at `begin`: \s+(?!\S)|\s+, that is, the run without its last
// code point if something follows that could take it along.
int64_t EndOfWhiteSpace(std::string_view text, int64_t begin) {
  int64_t end = begin;
  int64_t last = begin;
  for (CodePoint next = ReadCodePoint(text, end); next.category == CodePointClass::kWhiteSpace;
       next = ReadCodePoint(text, end)) {
    last = end;
    end += next.num_bytes;
  }
  return last > begin && end < static_cast<int64_t>(text.size()) ? last : end;
}

// The end of the last line break in the white space at `begin`, or `begin`: \s*[\r\n]+.
int64_t EndOfLineBreaks(std::string_view text, int64_t begin) {
  int64_t end_of_breaks = begin;
  int64_t end = begin;
  for (CodePoint next = ReadCodePoint(text, end); next.category == CodePointClass::kWhiteSpace;
       next = ReadCodePoint(text, end)) {
    end += next.num_bytes;
    if (next.value == '\r' || next.value == '\n') end_of_breaks = end;
  }
  return end_of_breaks;
}

bool IsWordClass(CodePointClass category) {
  return category != CodePointClass::kEnd && category != CodePointClass::kWhiteSpace;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
template <typename Emit>
void SplitGpt2(std::string_view text, const Emit& emit) {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t begin = 0, end = 0; begin < size; begin = end) {
    const int64_t contraction = ContractionLength(text, begin, LetterCase::kRespect);
    if (contraction > 0) {
      end = begin + contraction;
    } else {
      const int64_t run = text[static_cast<size_t>(begin)] == ' ' ? begin + 1 : begin;
      const CodePointClass category = ReadCodePoint(text, run).category;
      end = IsWordClass(category) ? EndOfRun(text, run, category) : EndOfWhiteSpace(text, begin);
    }
    emit(Slice(text, begin, end));
  }
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,num_digits}|
//  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
int64_t EndOfLlama3Word(std::string_view text, int64_t begin, int64_t num_digits) {
  if (const int64_t length = ContractionLength(text, begin, LetterCase::kIgnore); length > 0) {
    return begin + length;
  }
  const CodePoint first = ReadCodePoint(text, begin);
  const int64_t second = begin + first.num_bytes;
  if (first.category == CodePointClass::kLetter) {
    return EndOfRun(text, second, CodePointClass::kLetter);
  }
  if (first.category == CodePointClass::kNumber) {
    int64_t end = second;
    for (int64_t i = 1; i < num_digits; ++i) {
      const CodePoint next = ReadCodePoint(text, end);
      if (next.category != CodePointClass::kNumber) break;
      end += next.num_bytes;
    }
    return end;
  }
  const CodePointClass next = ReadCodePoint(text, second).category;
  if (first.value != '\r' && first.value != '\n' && next == CodePointClass::kLetter) {
    return EndOfRun(text, second, CodePointClass::kLetter);
  }
  if (first.category == CodePointClass::kOther ||
      (first.value == ' ' && next == CodePointClass::kOther)) {
    auto end = static_cast<size_t>(EndOfRun(text, second, CodePointClass::kOther));
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return static_cast<int64_t>(end);
  }
  const int64_t end = EndOfLineBreaks(text, begin);
  return end > begin ? end : EndOfWhiteSpace(text, begin);
}

template <typename Emit>
void SplitLlama3(std::string_view text, int64_t num_digits, const Emit& emit) {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t begin = 0, end = 0; begin < size; begin = end) {
    end = EndOfLlama3Word(text, begin, num_digits);
    emit(Slice(text, begin, end));
  }
}

enum class RunLength : uint8_t { kOne, kAll };

// Emits each code point for which `is_match` holds, or each run of them, as `on_match`, and what
// lies between as `on_rest`.
template <typename IsMatch, typename OnMatch, typename OnRest>
void Isolate(std::string_view text, RunLength run_length, const IsMatch& is_match,
             const OnMatch& on_match, const OnRest& on_rest) {
  int64_t begin = 0;
  bool was_match = false;
  for (int64_t end = 0;;) {
    const CodePoint next = ReadCodePoint(text, end);
    const bool is_end = next.num_bytes == 0;
    const bool matches = !is_end && is_match(next);
    const bool is_cut =
        is_end || matches != was_match || (matches && run_length == RunLength::kOne);
    if (is_cut && end > begin) {
      if (was_match) {
        on_match(Slice(text, begin, end));
      } else {
        on_rest(Slice(text, begin, end));
      }
      begin = end;
    }
    if (is_end) return;
    was_match = matches;
    end += next.num_bytes;
  }
}

bool IsNumber(const CodePoint& code_point) {
  return code_point.category == CodePointClass::kNumber;
}

// \p{N}, each alone, then the GPT-2 rule inside what is left.
template <typename Emit>
void SplitSmollm(std::string_view text, const Emit& emit) {
  Isolate(text, RunLength::kOne, IsNumber, emit,
          [&](std::string_view rest) { SplitGpt2(rest, emit); });
}

// [0-9][0-9][0-9], wherever three stand together, from the left.
template <typename Emit>
void SplitDigitTriples(std::string_view text, const Emit& emit) {
  const auto is_digit = [&](size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  size_t begin = 0;
  for (size_t i = 0; i + 3 <= text.size();) {
    if (!is_digit(i) || !is_digit(i + 1) || !is_digit(i + 2)) {
      ++i;
      continue;
    }
    if (i > begin) emit(text.substr(begin, i - begin));
    emit(text.substr(i, 3));
    begin = i += 3;
  }
  if (begin < text.size()) emit(text.substr(begin));
}

// Four rules, each inside the words of the one before: [\p{P}$+<=>^~|]+, GPT-2, \p{N}+, and digits
// in threes.
template <typename Emit>
void SplitDefault(std::string_view text, const Emit& emit) {
  constexpr std::string_view kSymbols = "$+<=>^~|";
  const auto is_punctuation = [&](const CodePoint& code_point) {
    if (code_point.category != CodePointClass::kOther) return false;
    const bool is_symbol = code_point.num_bytes == 1 &&
                           kSymbols.find(static_cast<char>(code_point.value)) != kSymbols.npos;
    return is_symbol || IsPunctuation(code_point.value);
  };
  const auto split_digits = [&](std::string_view digits) { SplitDigitTriples(digits, emit); };
  const auto split_numbers = [&](std::string_view word) {
    Isolate(word, RunLength::kAll, IsNumber, split_digits, emit);
  };
  const auto split_words = [&](std::string_view rest) { SplitGpt2(rest, split_numbers); };
  Isolate(text, RunLength::kAll, is_punctuation, split_words, split_words);
}

}  // namespace

std::optional<PreTokenizer> PreTokenizerByName(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, PreTokenizer>, 9> kNames = {{
      {"default", PreTokenizer::kDefault},
      {"gpt-2", PreTokenizer::kGpt2},
      {"gpt2", PreTokenizer::kGpt2},
      {"smollm", PreTokenizer::kSmollm},
      {"qwen2", PreTokenizer::kQwen2},
      {"deepseek-r1-qwen", PreTokenizer::kQwen2},
      {"llama-bpe", PreTokenizer::kLlama3},
      {"llama3", PreTokenizer::kLlama3},
      {"llama-v3", PreTokenizer::kLlama3},
  }};
  for (const auto& [known, rule] : kNames) {
    if (known == name) return rule;
  }
  return std::nullopt;
}

void SplitIntoWords(PreTokenizer rule, std::string_view text,
                    const std::function<void(std::string_view)>& emit) {
  switch (rule) {
    case PreTokenizer::kDefault:
      return SplitDefault(text, emit);
    case PreTokenizer::kGpt2:
      return SplitGpt2(text, emit);
    case PreTokenizer::kSmollm:
      return SplitSmollm(text, emit);
    case PreTokenizer::kQwen2:
      return SplitLlama3(text, /*num_digits=*/1, emit);
    case PreTokenizer::kLlama3:
      return SplitLlama3(text, /*num_digits=*/3, emit);
  }
}

}  // namespace intarsia::model
