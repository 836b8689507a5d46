#include "query/sentences.h"

#include <algorithm>
#include <array>
#include <string>

#include <utf8proc.h>

#include "base/utf8.h"

namespace intarsia::query {
namespace {

// Sorted. Behind these a full stop ends no sentence, whatever follows.
constexpr std::array<std::string_view, 42> kBeforeNames = {
    "adm",  "approx", "assoc", "asst", "ave", "bldg", "blvd", "brig", "ca",  "capt", "cf",
    "cmdr", "col",    "cpl",   "dept", "dr",  "e.g",  "eds",  "esp",  "gen", "gov",  "hon",
    "i.e",  "incl",   "lt",    "maj",  "mme", "mr",   "mrs",  "ms",   "mt",  "prof", "rev",
    "sen",  "sgt",    "sr",    "sra",  "st",  "ste",  "viz",  "vs",   "z.b"};
// Sorted. Behind these it ends none if a number follows: "no. 5", but "He said no. Then".
constexpr std::array<std::string_view, 35> kBeforeNumbers = {
    "app", "apr", "art",  "aug", "ch",   "chap", "cl",  "dec",  "ed",  "eq",  "eqs", "ex",
    "feb", "fig", "figs", "jan", "jul",  "jun",  "mar", "no",   "nos", "nov", "oct", "p",
    "par", "pp",  "pt",   "ref", "refs", "sec",  "sep", "sept", "tab", "ver", "vol"};
constexpr size_t kAbbreviationBytesMax = 8;

constexpr bool IsBlank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

// The code point at `offset`; one of no bytes at the end of the text.
CodePoint Decode(std::string_view text, int64_t offset) {
  if (offset >= static_cast<int64_t>(text.size())) return {};
  return DecodeCodePoint(text, offset);
}

utf8proc_category_t CategoryOf(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

bool IsLower(char32_t code_point) {
  if (code_point < 0x80) return code_point >= 'a' && code_point <= 'z';
  return CategoryOf(code_point) == UTF8PROC_CATEGORY_LL;
}

bool IsLetterOrDigit(char32_t code_point) {
  if (code_point < 0x80) {
    return (code_point >= 'a' && code_point <= 'z') || (code_point >= 'A' && code_point <= 'Z') ||
           (code_point >= '0' && code_point <= '9');
  }
  const utf8proc_category_t category = CategoryOf(code_point);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

// Ends a sentence if a blank follows.
bool IsTerminator(char32_t code_point) {
  switch (code_point) {
    case '.':
    case '!':
    case '?':
    case 0x2026:  // horizontal ellipsis
    case 0x061F:
    case 0x06D4:  // Arabic question mark and full stop
    case 0x0589:  // Armenian
    case 0x1362:  // Ethiopic
    case 0x203C:
    case 0x2047:
    case 0x2048:
    case 0x2049:
    case 0xFF0E:  // full-width full stop, also a decimal point
      return true;
    default:
      return false;
  }
}

// Ends a sentence whatever follows.
bool IsFullStop(char32_t code_point) {
  switch (code_point) {
    case 0x3002:
    case 0xFF01:
    case 0xFF1F:
    case 0xFF61:  // Chinese and Japanese
    case 0x0964:
    case 0x0965:  // danda
    case 0x17D4:
    case 0x104B:  // Khmer, Burmese
      return true;
    default:
      return false;
  }
}

// Belongs to the sentence before it: closing quotes and brackets, and Markdown's closing marks.
bool IsCloser(char32_t code_point) {
  switch (code_point) {
    case '"':
    case '\'':
    case ')':
    case ']':
    case '}':
    case '*':
    case '_':
    case '`':
    case 0x2019:
    case 0x201D:
    case 0x00BB:
    case 0x203A:
    case 0x3009:
    case 0x300B:
    case 0x300D:
    case 0x300F:
    case 0x3011:
    case 0xFF09:
      return true;
    default:
      return false;
  }
}

// Stands in front of the first word of a sentence.
bool IsOpener(char32_t code_point) {
  switch (code_point) {
    case '"':
    case '\'':
    case '(':
    case '[':
    case '{':
    case '*':
    case '_':
    case '`':
    case 0x2018:
    case 0x201C:
    case 0x00AB:
    case 0x2039:
    case 0x00BF:
    case 0x00A1:
    case 0x3008:
    case 0x300A:
    case 0x300C:
    case 0x300E:
    case 0x3010:
    case 0xFF08:
      return true;
    default:
      return false;
  }
}

// The number of bytes of a list mark ("- ", "12. ", "a) ") at the beginning of `line`, or 0.
size_t ListMarkBytes(std::string_view line) {
  if (line.size() >= 2 && (line[0] == '-' || line[0] == '*' || line[0] == '+') &&
      IsBlank(line[1])) {
    return 2;
  }
  size_t digits = 0;
  while (digits < line.size() && digits < 9 && line[digits] >= '0' && line[digits] <= '9') {
    ++digits;
  }
  if (digits == 0 && !line.empty() && line[0] >= 'a' && line[0] <= 'z' && line.size() > 1 &&
      line[1] == ')') {
    digits = 1;
  }
  if (digits > 0 && digits + 1 < line.size() && (line[digits] == '.' || line[digits] == ')') &&
      IsBlank(line[digits + 1])) {
    return digits + 2;
  }
  return 0;
}

// "U.S", "D.C", "Ph.D": capitals with full stops between them.
bool IsDottedLetters(std::string_view word) {
  if (word == "Ph.D") return true;
  if (word.size() < 3 || word.size() % 2 == 0) return false;
  for (size_t i = 0; i < word.size(); ++i) {
    const bool is_capital = word[i] >= 'A' && word[i] <= 'Z';
    if (i % 2 == 0 ? !is_capital : word[i] != '.') return false;
  }
  return true;
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// How a line stands to its neighbours.
struct LineKind {
  bool is_blank = false;
  bool is_quote = false;
  bool is_fence = false;
  bool is_whole = false;      // one sentence: a heading, a table row, a rule, a fence; so is code
  bool is_underline = false;  // ends the heading that it stays with
  bool begins_block = false;  // a sentence never reaches into it from the line before
};

LineKind KindOf(std::string_view line) {
  while (!line.empty() && IsBlank(line.front())) line.remove_prefix(1);
  while (!line.empty() && IsBlank(line.back())) line.remove_suffix(1);
  LineKind kind;
  kind.is_blank = line.empty();
  if (kind.is_blank) return kind;
  const bool is_row = line.front() == '|' || line.find(" | ") != std::string_view::npos;
  const size_t num_marks = std::min(line.find_first_not_of('#'), line.size());
  const bool is_heading =
      num_marks >= 1 && num_marks <= 6 && (num_marks == line.size() || IsBlank(line[num_marks]));
  kind.is_underline =
      line.find_first_not_of(line.front() == '=' ? '=' : '-') == std::string_view::npos;
  const bool is_rule = line.size() >= 3 && line.find_first_not_of("-*_ ") == std::string_view::npos;
  kind.is_fence = StartsWith(line, "```") || StartsWith(line, "~~~");
  kind.is_quote = line.front() == '>';
  kind.is_whole = is_row || is_heading || kind.is_fence || (is_rule && !kind.is_underline);
  kind.begins_block = kind.is_whole || kind.is_quote || ListMarkBytes(line) > 0;
  return kind;
}

class SentenceSplitter {
 public:
  explicit SentenceSplitter(std::string_view text)
      : text_(text), size_(static_cast<int64_t>(text.size())) {}

  std::vector<ByteRange> Split() {
    int64_t block_begin = 0;
    bool is_in_code = false;
    LineKind before;
    for (int64_t line = 0; line < size_;) {
      const size_t found = text_.find('\n', static_cast<size_t>(line));
      const int64_t end = found == std::string_view::npos ? size_ : static_cast<int64_t>(found) + 1;
      const LineKind kind = KindOf(Sub(line, end));
      const bool continues_quote = kind.is_quote && before.is_quote;
      if (kind.is_blank || (kind.begins_block && !continues_quote) || is_in_code) {
        SplitBlock(block_begin, line);
        block_begin = line;
      }
      if (is_in_code || kind.is_whole) {
        Emit(line, end);
        block_begin = end;
      } else if (kind.is_blank || kind.is_underline) {
        SplitBlock(block_begin, end);
        block_begin = end;
      }
      if (kind.is_fence) is_in_code = !is_in_code;
      before = kind;
      line = end;
    }
    SplitBlock(block_begin, size_);
    return std::move(sentences_);
  }

 private:
  char At(int64_t offset) const { return text_[static_cast<size_t>(offset)]; }

  std::string_view Sub(int64_t begin, int64_t end) const {
    return text_.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }

  // Adds the range without its blanks, unless nothing is left.
  void Emit(int64_t begin, int64_t end) {
    while (begin < end && IsBlank(At(begin))) ++begin;
    while (end > begin && IsBlank(At(end - 1))) --end;
    if (begin < end) sentences_.push_back({begin, end});
  }

  // Splits a range whose line ends are no boundaries.
  void SplitBlock(int64_t begin, int64_t end) {
    int64_t sentence = begin;
    int64_t offset = begin;
    // The full stop of "1. " ends nothing.
    while (offset < end && IsBlank(At(offset))) ++offset;
    offset += static_cast<int64_t>(ListMarkBytes(Sub(offset, end)));
    int64_t word = offset;  // where the word before `offset` began
    while (offset < end) {
      const CodePoint mark = Decode(text_, offset);
      if (!IsTerminator(mark.value) && !IsFullStop(mark.value)) {
        offset += mark.num_bytes;
        if (IsBlank(static_cast<char>(mark.value < 0x80 ? mark.value : 'x'))) word = offset;
        continue;
      }
      const Stop stop = ReadStop(offset, end);
      if (stop.is_full || IsBoundary(word, offset, stop, end)) {
        Emit(sentence, stop.end);
        sentence = stop.end;
        word = stop.end;
      }
      offset = stop.end;
    }
    Emit(sentence, end);
  }

  // A run of terminators with the closing marks behind it.
  struct Stop {
    int64_t end = 0;
    int64_t num_marks = 0;
    bool is_full = false;  // one of them ends a sentence whatever follows
  };

  Stop ReadStop(int64_t offset, int64_t end) const {
    Stop stop{offset};
    while (stop.end < end) {
      const CodePoint next = Decode(text_, stop.end);
      const bool is_mark = IsTerminator(next.value) || IsFullStop(next.value);
      if (!is_mark && !IsCloser(next.value)) break;
      stop.is_full |= IsFullStop(next.value);
      stop.num_marks += is_mark ? 1 : 0;
      stop.end += next.num_bytes;
    }
    return stop;
  }

  // Whether the marks [mark, stop.end) behind the word from `word` end a sentence.
  bool IsBoundary(int64_t word, int64_t mark, const Stop& stop, int64_t end) const {
    if (stop.end >= end) return true;
    if (!IsBlank(At(stop.end))) return false;  // a decimal, a host name, a file name
    int64_t next = stop.end;
    while (next < end && IsBlank(At(next))) ++next;
    CodePoint first = Decode(text_, next);
    while (next < end && IsOpener(first.value)) {
      next += first.num_bytes;
      first = Decode(text_, next);
    }
    if (next < end && IsLower(first.value)) return false;
    const bool is_before_number = first.value >= '0' && first.value <= '9';
    return At(mark) != '.' || stop.num_marks > 1 || !IsAbbreviation(word, mark, is_before_number);
  }

  // Whether the full stop at `mark` belongs to the word from `word`.
  bool IsAbbreviation(int64_t word, int64_t mark, bool is_before_number) const {
    CodePoint first = Decode(text_, word);
    while (word < mark && !IsLetterOrDigit(first.value)) {
      word += first.num_bytes;
      first = Decode(text_, word);
    }
    if (word >= mark) return false;
    // An initial, "J. Smith". "World War I." is more often the end of a sentence.
    if (word + first.num_bytes == mark && first.value > '9') {
      return first.value != 'I' && CategoryOf(first.value) == UTF8PROC_CATEGORY_LU;
    }
    if (static_cast<size_t>(mark - word) > kAbbreviationBytesMax) return false;
    std::string lower(Sub(word, mark));
    for (char& byte : lower) {
      if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
    }
    const std::string_view key = lower;
    if (IsDottedLetters(Sub(word, mark))) return true;
    if (std::binary_search(kBeforeNames.begin(), kBeforeNames.end(), key)) return true;
    return is_before_number &&
           std::binary_search(kBeforeNumbers.begin(), kBeforeNumbers.end(), key);
  }

  std::string_view text_;
  int64_t size_;
  std::vector<ByteRange> sentences_;
};

}  // namespace

std::vector<ByteRange> SplitSentences(std::string_view text) {
  return SentenceSplitter(text).Split();
}

}  // namespace intarsia::query
