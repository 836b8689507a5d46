#include "client/shell/terminal_text.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/check.h"
#include "base/utf8.h"

namespace intarsia::client {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kEllipsis = "\xE2\x80\xA6";  // one column

int64_t Size(std::string_view text) { return static_cast<int64_t>(text.size()); }

std::string_view Slice(std::string_view text, int64_t begin, int64_t end) {
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// Controls, and the marks that turn the direction of what follows on the line.
bool IsUnsafe(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

enum class Lines : uint8_t { kKeep, kJoin };

std::string Filter(std::string_view text, Lines lines) {
  std::string safe;
  safe.reserve(text.size());
  for (int64_t offset = 0; offset < Size(text);) {
    const CodePoint c = DecodeCodePoint(text, offset);
    if (c.value == U'\n' || c.value == U'\t') {
      safe += lines == Lines::kKeep ? static_cast<char>(c.value) : ' ';
    } else if (c.value == U'\r') {
      // Part of a line end, or a jump to the start of the line, which is dropped.
    } else if (IsUnsafe(c.value) || c.value == U'\uFFFD') {
      safe += kReplacement;
    } else {
      safe += Slice(text, offset, offset + c.num_bytes);
    }
    offset += c.num_bytes;
  }
  return safe;
}

// The end of the longest beginning of `line` that has at most `columns` columns; at least one code
// point, so that a loop over a line ends.
int64_t FitEnd(std::string_view line, int64_t columns) {
  int64_t width = 0;
  int64_t offset = 0;
  while (offset < Size(line)) {
    const int64_t num_bytes = DecodeCodePoint(line, offset).num_bytes;
    width += DisplayWidth(Slice(line, offset, offset + num_bytes));
    if (width > columns && offset > 0) break;
    offset += num_bytes;
  }
  return offset;
}

}  // namespace

std::string SafeText(std::string_view text) { return Filter(text, Lines::kKeep); }

std::string SafeLine(std::string_view text) { return Filter(text, Lines::kJoin); }

std::string CutToWidth(std::string_view line, int64_t columns) {
  INTARSIA_CHECK(columns >= 1);
  if (DisplayWidth(line) <= columns) return std::string(line);
  if (columns == 1) return std::string(kEllipsis);
  const int64_t end = FitEnd(line, columns - 1);
  const std::string_view beginning = Slice(line, 0, end);
  // A wide character may not fit into what the ellipsis leaves.
  if (DisplayWidth(beginning) > columns - 1) return std::string(kEllipsis);
  return std::string(beginning) + std::string(kEllipsis);
}

std::vector<std::string> WrapToWidth(std::string_view text, int64_t columns, int64_t lines_max) {
  INTARSIA_CHECK(columns >= 1 && lines_max >= 1);
  std::vector<std::string> lines;
  // Nothing behind what fits can show, so a long document is not looked at as a whole: a code point
  // has at most four bytes, and few have no width.
  const bool is_bounded = lines_max < INT64_MAX / 64 / columns;
  const int64_t num_bytes_max = is_bounded ? 64 * columns * lines_max : INT64_MAX;
  const bool is_truncated = Size(text) > num_bytes_max;
  const std::string safe =
      SafeText(is_truncated ? text.substr(0, static_cast<size_t>(num_bytes_max)) : text);
  std::string_view rest = safe;
  while (true) {
    const size_t newline = rest.find('\n');
    const std::string_view paragraph = rest.substr(0, newline);
    std::string line = SafeLine(paragraph);
    while (DisplayWidth(line) > columns) {
      if (static_cast<int64_t>(lines.size()) + 1 == lines_max) break;
      const int64_t fit = FitEnd(line, columns);
      if (fit == Size(line)) break;  // One character that is wider than a line.
      const size_t blank = line.rfind(' ', static_cast<size_t>(fit));
      const bool has_blank = blank != std::string::npos && blank > 0;
      const size_t end = has_blank ? blank : static_cast<size_t>(fit);
      lines.push_back(CutToWidth(line.substr(0, end), columns));
      line.erase(0, has_blank ? end + 1 : end);
    }
    const bool is_last = newline == std::string_view::npos;
    const bool is_full = static_cast<int64_t>(lines.size()) + 1 == lines_max;
    const bool is_cut = is_full && (!is_last || is_truncated);
    if (is_cut) line += kEllipsis;
    lines.push_back(CutToWidth(line, columns));
    if (is_last || is_full) return lines;
    rest.remove_prefix(newline + 1);
  }
}

std::string Pad(std::string_view line, int64_t columns, Alignment alignment) {
  const int64_t missing = std::max<int64_t>(0, columns - DisplayWidth(line));
  const std::string blanks(static_cast<size_t>(missing), ' ');
  return alignment == Alignment::kRight ? blanks + std::string(line) : std::string(line) + blanks;
}

std::string GroupDigits(int64_t number) {
  std::string digits = std::to_string(number);
  const int64_t first = digits.starts_with('-') ? 1 : 0;
  for (int64_t place = Size(digits) - 3; place > first; place -= 3) {
    digits.insert(static_cast<size_t>(place), ",");
  }
  return digits;
}

std::string HumanBytes(double num_bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (num_bytes >= 999.5 && unit + 1 < kUnits.size()) {
    num_bytes /= 1000;
    ++unit;
  }
  std::array<char, 48> buffer{};
  const char* const format = unit == 0 || num_bytes >= 99.95 ? "%.0f %s" : "%.1f %s";
  std::snprintf(buffer.data(), buffer.size(), format, num_bytes, kUnits[unit]);
  return buffer.data();
}

std::string HumanDuration(int64_t duration_ms) {
  // "05" for 5.
  const auto two_digits = [](int64_t number) {
    return (number < 10 ? "0" : "") + std::to_string(number);
  };
  if (duration_ms < 1000) return std::to_string(duration_ms) + " ms";
  if (duration_ms < 60'000) {
    std::array<char, 16> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.1f s", static_cast<double>(duration_ms) / 1000);
    return buffer.data();
  }
  const int64_t seconds = duration_ms / 1000 % 60;
  const int64_t minutes = duration_ms / 60'000;
  if (minutes < 60) return std::to_string(minutes) + "m " + two_digits(seconds) + "s";
  return std::to_string(minutes / 60) + "h " + two_digits(minutes % 60) + "m";
}

}  // namespace intarsia::client
