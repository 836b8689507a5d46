#include "model/code_point_class.h"

#include <array>

#include <utf8proc.h>

namespace intarsia::model {
namespace {

CodePointClass Classify(char32_t value) {
  if (IsWhiteSpace(value)) return CodePointClass::kWhiteSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CodePointClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CodePointClass::kNumber;
    default:
      return CodePointClass::kOther;
  }
}

constexpr size_t kNumAscii = 128;

constexpr std::array<CodePointClass, kNumAscii> MakeAsciiTable() {
  std::array<CodePointClass, kNumAscii> table{};
  for (size_t i = 0; i < kNumAscii; ++i) {
    const bool is_letter = (i >= 'A' && i <= 'Z') || (i >= 'a' && i <= 'z');
    const bool is_number = i >= '0' && i <= '9';
    const bool is_white_space = i == ' ' || (i >= '\t' && i <= '\r');
    table[i] = is_letter        ? CodePointClass::kLetter
               : is_number      ? CodePointClass::kNumber
               : is_white_space ? CodePointClass::kWhiteSpace
                                : CodePointClass::kOther;
  }
  return table;
}
constexpr std::array<CodePointClass, kNumAscii> kAscii = MakeAsciiTable();

}  // namespace

bool IsWhiteSpace(char32_t value) {
  return value == ' ' || (value >= '\t' && value <= '\r') || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 ||
         value == 0x2029 || value == 0x202F || value == 0x205F || value == 0x3000;
}

bool IsPunctuation(char32_t value) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(value))) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

CodePoint ReadCodePoint(std::string_view text, int64_t offset) {
  const auto begin = static_cast<size_t>(offset);
  if (begin >= text.size()) return {};
  const auto lead = static_cast<uint8_t>(text[begin]);
  if (lead < kNumAscii) return {lead, 1, kAscii[lead]};
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(text[begin + i]) & 0x3FU; };
  char32_t value = 0;
  int32_t num_bytes = 0;
  if (lead < 0xE0) {
    value = (lead & 0x1FU) << 6 | byte(1);
    num_bytes = 2;
  } else if (lead < 0xF0) {
    value = (lead & 0x0FU) << 12 | byte(1) << 6 | byte(2);
    num_bytes = 3;
  } else {
    value = (lead & 0x07U) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3);
    num_bytes = 4;
  }
  return {value, num_bytes, Classify(value)};
}

}  // namespace intarsia::model
