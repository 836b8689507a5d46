#include "model/byte_alphabet.h"

#include <array>

namespace intarsia::model {
namespace {

constexpr int32_t kNumBytes = 256;
constexpr int32_t kShifted = 256;  // The first character for bytes that are not printable.
constexpr int32_t kNumShifted = 68;

constexpr bool IsPrintable(int32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Tables {
  std::array<char32_t, kNumBytes> code_points{};
  std::array<int16_t, kShifted + kNumShifted> bytes{};  // -1 outside the alphabet.
};

constexpr Tables MakeTables() {
  Tables tables;
  tables.bytes.fill(-1);
  int32_t next = kShifted;
  for (int32_t byte = 0; byte < kNumBytes; ++byte) {
    const int32_t code_point = IsPrintable(byte) ? byte : next++;
    tables.code_points[static_cast<size_t>(byte)] = static_cast<char32_t>(code_point);
    tables.bytes[static_cast<size_t>(code_point)] = static_cast<int16_t>(byte);
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

}  // namespace

char32_t ByteAlphabetCodePoint(uint8_t byte) { return kTables.code_points[byte]; }

std::optional<std::string> DecodeByteAlphabet(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    // The alphabet ends below U+0800: its characters take one byte or two.
    auto code_point = static_cast<uint32_t>(static_cast<uint8_t>(text[i]));
    if (code_point >= 0x80) {
      const bool is_pair = (code_point & 0xE0) == 0xC0 && i + 1 < text.size() &&
                           (static_cast<uint8_t>(text[i + 1]) & 0xC0) == 0x80;
      if (!is_pair) return std::nullopt;
      code_point = (code_point & 0x1F) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3FU);
    }
    if (code_point >= kTables.bytes.size() || kTables.bytes[code_point] < 0) return std::nullopt;
    decoded.push_back(static_cast<char>(kTables.bytes[code_point]));
  }
  return decoded;
}

}  // namespace intarsia::model
