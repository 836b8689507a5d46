// UTF-8: validation, repair, code points from bytes and back, and what a terminal shows.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia {

// The offset of the first byte that is not part of well-formed UTF-8 (RFC 3629), or -1.
int64_t FindInvalidUtf8(std::string_view text);

// The number of code points in `text`. REQUIRES: well-formed UTF-8.
int64_t CountCodePoints(std::string_view text);

// `text` with each ill-formed sequence replaced by one U+FFFD, by Unicode's rule of maximal
// subparts: a character that was cut off is one sequence. `num_replaced` may be null.
std::string RepairUtf8(std::string_view text, int64_t* num_replaced);

struct CodePoint {
  char32_t value = 0;
  int64_t num_bytes = 0;
};

// The code point at `offset`; U+FFFD of one byte where the text is ill-formed.
// REQUIRES: 0 <= offset < text.size().
CodePoint DecodeCodePoint(std::string_view text, int64_t offset);

// Appends `code_point` to `text`. REQUIRES: code_point <= U+10FFFF, and no surrogate.
void AppendCodePoint(char32_t code_point, std::string* text);

// The columns that a terminal gives `text`: 2 for a wide character, 0 for a combining mark or a
// control character.
int64_t DisplayWidth(std::string_view text);

}  // namespace intarsia
