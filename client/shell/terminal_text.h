// Text as a terminal may show it: without control of the cursor, in a given number of columns.
//
// Documents and models write what they like, escape sequences too. Nothing of them reaches a
// terminal but through these functions.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace intarsia::client {

// `text` with newlines and tabs kept, and every other control character and ill-formed byte
// replaced by U+FFFD.
std::string SafeText(std::string_view text);

// As SafeText, on one line: newlines and tabs are blanks.
std::string SafeLine(std::string_view text);

// At most `columns` columns of a safe line; what is cut off shows as an ellipsis.
// REQUIRES: columns >= 1.
std::string CutToWidth(std::string_view line, int64_t columns);

// `text`, safe, in lines of at most `columns` columns: broken at its newlines, then at blanks, and
// in words where they are longer than a line. More than `lines_max` lines are cut with an ellipsis.
// At least one line. REQUIRES: columns >= 1, lines_max >= 1.
std::vector<std::string> WrapToWidth(std::string_view text, int64_t columns, int64_t lines_max);

// `line` with blanks in front (right) or behind, up to `columns` columns.
enum class Alignment : uint8_t { kLeft, kRight };
std::string Pad(std::string_view line, int64_t columns, Alignment alignment);

// 1234567 as 1,234,567.
std::string GroupDigits(int64_t number);
// For example "1.9 MB"; powers of ten.
std::string HumanBytes(double num_bytes);
// For example "850 ms", "1.4 s", "2m 05s", "3h 20m".
std::string HumanDuration(int64_t duration_ms);

}  // namespace intarsia::client
