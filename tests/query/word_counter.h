// CountWords: a token counter for tests: a token for each word and for each other visible byte.
#pragma once

#include <cstdint>
#include <string_view>

namespace intarsia::query {

inline int64_t CountWords(std::string_view text) {
  int64_t count = 0;
  bool is_in_word = false;
  for (const char byte : text) {
    const bool is_word = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                         (byte >= '0' && byte <= '9') || static_cast<uint8_t>(byte) >= 0x80;
    const bool is_blank = byte == ' ' || (byte >= '\t' && byte <= '\r');
    if (is_word ? !is_in_word : !is_blank) ++count;
    is_in_word = is_word;
  }
  return count;
}

inline bool IsBlankByte(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

}  // namespace intarsia::query
