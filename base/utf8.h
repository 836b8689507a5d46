// UTF-8: validation and the two ways of counting, bytes and code points.
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

// `text` with each ill-formed sequence replaced by U+FFFD; `num_replaced` may be null.
std::string RepairUtf8(std::string_view text, int64_t* num_replaced);

}  // namespace intarsia
