// DecodeText: the bytes of a file as UTF-8.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace intarsia::query {

struct DecodedText {
  std::string text;                  // well-formed UTF-8 without NUL and byte order mark
  std::vector<std::string> notices;  // what was converted or repaired
};

// Converts from what a byte order mark says (UTF-8, UTF-16), else keeps what is UTF-8, else
// converts from `charset`, the name that the file itself declares (windows-1252 and its subsets),
// else repairs: bytes that are not UTF-8 become U+FFFD, which a notice counts. `charset` may be
// empty. Errors: kInvalidArgument if the bytes are binary: NUL, or more than a quarter is not text;
// kUnsupported if `charset` is another one and the bytes are not UTF-8.
Result<DecodedText> DecodeText(std::string_view bytes, std::string_view charset);

// OK, or kUnsupported with the name of the format if `bytes` begin like a well-known one that is
// not text (PDF, ZIP and what is built on it, images, archives, RTF).
Status CheckIsText(std::string_view bytes);

// The character set that an HTML file declares in its first 4 KiB, lower case; empty if none.
std::string DeclaredHtmlCharset(std::string_view html);

}  // namespace intarsia::query
