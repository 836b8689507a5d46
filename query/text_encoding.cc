#include "query/text_encoding.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/utf8.h"

namespace intarsia::query {
namespace {

// Where windows-1252 differs from Latin-1: 0x80 to 0x9F. 0: not assigned.
constexpr std::array<uint16_t, 32> kWindows1252 = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};
constexpr char32_t kReplacement = 0xFFFD;
constexpr size_t kDeclarationBytesMax = 4'096;

// A file with more than one bad byte in this many is not text.
constexpr int64_t kBadBytesOneIn = 4;

struct Magic {
  std::string_view begin;
  std::string_view format;
};
constexpr std::array<Magic, 12> kMagics = {{{"%PDF-", "PDF"},
                                            {"PK\x03\x04", "ZIP (also .docx, .xlsx, .odt, .epub)"},
                                            {"\xD0\xCF\x11\xE0", "Microsoft Office 97"},
                                            {"{\\rtf", "RTF"},
                                            {"\x89PNG", "PNG"},
                                            {"\xFF\xD8\xFF", "JPEG"},
                                            {"GIF8", "GIF"},
                                            {"\x1F\x8B", "gzip"},
                                            {"7z\xBC\xAF", "7z"},
                                            {"\x7F"
                                             "ELF",
                                             "ELF"},
                                            {"SQLite format 3", "SQLite"},
                                            {"%!PS", "PostScript"}}};

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// UTF-16 without its byte order mark. Unpaired surrogates become U+FFFD and are counted.
std::string FromUtf16(std::string_view bytes, size_t low_byte, int64_t* num_replaced) {
  const auto unit = [&](size_t i) {
    const auto low = static_cast<uint8_t>(bytes[i + low_byte]);
    const auto high = static_cast<uint8_t>(bytes[i + 1 - low_byte]);
    return static_cast<char32_t>(high << 8 | low);
  };
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    char32_t code_point = unit(i);
    if (code_point >= 0xD800 && code_point < 0xE000) {
      const char32_t next = i + 3 < bytes.size() ? unit(i + 2) : U'\0';
      if (code_point < 0xDC00 && next >= 0xDC00 && next < 0xE000) {
        code_point = 0x10000 + ((code_point - 0xD800) << 10) + (next - 0xDC00);
        i += 2;
      } else {
        code_point = kReplacement;
        ++*num_replaced;
      }
    }
    AppendCodePoint(code_point, &text);
  }
  if (bytes.size() % 2 == 1) {
    AppendCodePoint(kReplacement, &text);
    ++*num_replaced;
  }
  return text;
}

std::string FromWindows1252(std::string_view bytes, int64_t* num_replaced) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 8);
  for (const char raw : bytes) {
    const auto byte = static_cast<uint8_t>(raw);
    char32_t code_point = byte;
    if (byte >= 0x80 && byte < 0xA0) code_point = kWindows1252[byte - 0x80U];
    if (code_point == 0) {
      code_point = kReplacement;
      ++*num_replaced;
    }
    AppendCodePoint(code_point, &text);
  }
  return text;
}

void AddReplacedNotice(int64_t num_replaced, DecodedText* decoded) {
  if (num_replaced == 0) return;
  decoded->notices.push_back("bytes that are not text were replaced by U+FFFD: count=" +
                             std::to_string(num_replaced));
}

Status CheckNoNul(std::string_view text) {
  const size_t nul = text.find('\0');
  if (nul == std::string_view::npos) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "file is binary, not text: NUL byte at offset=" + std::to_string(nul));
}

bool IsLatin(std::string_view charset) {
  constexpr std::array<std::string_view, 9> kNames = {"windows-1252", "cp1252",     "iso-8859-1",
                                                      "iso8859-1",    "iso_8859-1", "latin1",
                                                      "latin-1",      "us-ascii",   "ascii"};
  return std::find(kNames.begin(), kNames.end(), charset) != kNames.end();
}

}  // namespace

Result<DecodedText> DecodeText(std::string_view bytes, std::string_view charset) {
  DecodedText decoded;
  int64_t num_replaced = 0;
  const bool is_little = StartsWith(bytes, "\xFF\xFE");
  if (is_little || StartsWith(bytes, "\xFE\xFF")) {
    decoded.text = FromUtf16(bytes.substr(2), is_little ? 0 : 1, &num_replaced);
    decoded.notices.emplace_back("text was converted from UTF-16");
    AddReplacedNotice(num_replaced, &decoded);
    INTARSIA_RETURN_IF_ERROR(CheckNoNul(decoded.text));
    return decoded;
  }
  if (StartsWith(bytes, "\xEF\xBB\xBF")) bytes.remove_prefix(3);
  INTARSIA_RETURN_IF_ERROR(CheckNoNul(bytes));
  if (FindInvalidUtf8(bytes) < 0) {
    decoded.text = bytes;
    return decoded;
  }
  if (IsLatin(charset)) {
    decoded.text = FromWindows1252(bytes, &num_replaced);
    decoded.notices.push_back("text was converted from " + std::string(charset));
    AddReplacedNotice(num_replaced, &decoded);
    return decoded;
  }
  if (!charset.empty() && charset != "utf-8" && charset != "utf8") {
    return Status(StatusCode::kUnsupported,
                  "character set is not supported, convert the file to "
                  "UTF-8: charset=" +
                      std::string(charset));
  }
  decoded.text = RepairUtf8(bytes, &num_replaced);
  if (num_replaced > static_cast<int64_t>(bytes.size()) / kBadBytesOneIn) {
    return Status(StatusCode::kInvalidArgument,
                  "file is binary or in an unknown character set, convert it to UTF-8: "
                  "ill_formed=" +
                      std::to_string(num_replaced) + " bytes=" + std::to_string(bytes.size()));
  }
  AddReplacedNotice(num_replaced, &decoded);
  return decoded;
}

Status CheckIsText(std::string_view bytes) {
  for (const Magic& magic : kMagics) {
    if (StartsWith(bytes, magic.begin)) {
      return Status(StatusCode::kUnsupported,
                    "format is not supported, convert the file to text, Markdown or HTML: format=" +
                        std::string(magic.format));
    }
  }
  return Status::Ok();
}

std::string DeclaredHtmlCharset(std::string_view html) {
  std::string head(html.substr(0, kDeclarationBytesMax));
  for (char& byte : head) {
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
  }
  constexpr std::string_view kKey = "charset";
  for (size_t at = head.find(kKey); at != std::string::npos; at = head.find(kKey, at + 1)) {
    size_t begin = head.find_first_not_of(" \t\r\n", at + kKey.size());
    if (begin == std::string::npos || head[begin] != '=') continue;
    begin = head.find_first_not_of(" \t\r\n\"'", begin + 1);
    if (begin == std::string::npos) break;
    const size_t end = head.find_first_of(" \t\r\n\"'/>;", begin);
    return head.substr(begin, end == std::string::npos ? end : end - begin);
  }
  return {};
}

}  // namespace intarsia::query
