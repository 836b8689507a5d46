// CodePointClass: the categories of Unicode that tokenizers tell apart, and a reader of UTF-8.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string_view>

namespace intarsia::model {

enum class CodePointClass : uint8_t {
  kEnd,         // No code point: the end of the text.
  kLetter,      // L*
  kNumber,      // N*
  kWhiteSpace,  // The property White_Space.
  kOther,
};

struct CodePoint {
  char32_t value = 0;
  int32_t num_bytes = 0;  // 0 at the end of the text.
  CodePointClass category = CodePointClass::kEnd;
};

// The code point at `offset`. REQUIRES: `text` is well-formed and a code point begins at `offset`,
// or it is the text's end.
CodePoint ReadCodePoint(std::string_view text, int64_t offset);

// Whether `value` is punctuation by category: P*.
bool IsPunctuation(char32_t value);
// Whether `value` has the property White_Space.
bool IsWhiteSpace(char32_t value);

}  // namespace intarsia::model
