// Dump: bytes as the pages about formats show them.
#pragma once

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace intarsia {

// Sixteen bytes a line, in hexadecimal, with what of them is a visible character.
inline std::string Dump(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t begin = 0; begin < bytes.size(); begin += 16) {
    const std::string_view line = bytes.substr(begin, 16);
    std::string printable;
    for (size_t i = 0; i < 16; ++i) {
      if (i < line.size()) {
        const auto byte = static_cast<uint8_t>(line[i]);
        text += {kDigits[byte >> 4], kDigits[byte & 15], ' '};
        printable += std::isgraph(byte) != 0 ? line[i] : '.';
      } else {
        text += "   ";
      }
    }
    text += " " + printable + "\n";
  }
  return text;
}

}  // namespace intarsia
