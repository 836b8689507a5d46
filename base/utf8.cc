#include "base/utf8.h"

#include <algorithm>
#include <array>

#include <utf8proc.h>

#include "base/check.h"

namespace intarsia {
namespace {

// The length of the well-formed sequence at `offset`, or 0.
int64_t SequenceLength(std::string_view text, int64_t offset) {
  utf8proc_int32_t code_point = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset;
  const utf8proc_ssize_t length =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()) - offset, &code_point);
  return length > 0 ? length : 0;
}

// How many bytes, at least 1, of the ill-formed text at `offset` one U+FFFD stands for: the longest
// beginning of a well-formed sequence (Unicode 15, section 3.9, table 3-7), so that a character
// that was cut off is one mark, and a byte that may begin nothing is one, too.
int64_t IllFormedLength(std::string_view text, int64_t offset) {
  const auto byte_at = [&](int64_t index) {
    return index < static_cast<int64_t>(text.size())
               ? static_cast<uint8_t>(text[static_cast<size_t>(index)])
               : 0;
  };
  const int lead = byte_at(offset);
  if (lead < 0xC2 || lead > 0xF4) return 1;
  const int lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const int highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte_at(offset + 1) < lowest || byte_at(offset + 1) > highest) return 1;
  const int64_t num_bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  int64_t length = 2;
  while (length < num_bytes && (byte_at(offset + length) & 0xC0) == 0x80) ++length;
  return length;
}

}  // namespace

int64_t FindInvalidUtf8(std::string_view text) {
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t offset = 0; offset < size;) {
    if (static_cast<uint8_t>(text[static_cast<size_t>(offset)]) < 0x80) {
      ++offset;
      continue;
    }
    const int64_t length = SequenceLength(text, offset);
    if (length == 0) return offset;
    offset += length;
  }
  return -1;
}

int64_t CountCodePoints(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; });
}

std::string RepairUtf8(std::string_view text, int64_t* num_replaced) {
  std::string repaired;
  repaired.reserve(text.size());
  int64_t count = 0;
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t offset = 0; offset < size;) {
    const int64_t length = SequenceLength(text, offset);
    if (length > 0) {
      repaired.append(text.substr(static_cast<size_t>(offset), static_cast<size_t>(length)));
      offset += length;
    } else {
      repaired.append("\xEF\xBF\xBD");
      ++count;
      offset += IllFormedLength(text, offset);
    }
  }
  if (num_replaced != nullptr) *num_replaced = count;
  return repaired;
}

CodePoint DecodeCodePoint(std::string_view text, int64_t offset) {
  const auto size = static_cast<int64_t>(text.size());
  INTARSIA_CHECK(offset >= 0 && offset < size);
  const auto first = static_cast<uint8_t>(text[static_cast<size_t>(offset)]);
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t code_point = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset;
  const utf8proc_ssize_t length = utf8proc_iterate(bytes, size - offset, &code_point);
  if (length <= 0) return {U'\uFFFD', 1};
  return {static_cast<char32_t>(code_point), length};
}

void AppendCodePoint(char32_t code_point, std::string* text) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const utf8proc_ssize_t length =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes.data());
  text->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(length));
}

int64_t DisplayWidth(std::string_view text) {
  int64_t width = 0;
  for (int64_t offset = 0; offset < static_cast<int64_t>(text.size());) {
    const CodePoint code_point = DecodeCodePoint(text, offset);
    width += utf8proc_charwidth(static_cast<utf8proc_int32_t>(code_point.value));
    offset += code_point.num_bytes;
  }
  return width;
}

}  // namespace intarsia
