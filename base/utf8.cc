#include "base/utf8.h"

#include <algorithm>

#include <utf8proc.h>

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
      ++offset;
    }
  }
  if (num_replaced != nullptr) *num_replaced = count;
  return repaired;
}

}  // namespace intarsia
