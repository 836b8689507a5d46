// FormatResult: a ResultSet as text, in one of the shell's output modes.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "query/value.h"

namespace intarsia::client {

enum class OutputMode : uint8_t {
  kBox,       // A table with borders, in the width of the terminal.
  kLine,      // One `name = value` a line. Numbers of these two and of kMarkdown are rounded.
  kCsv,       // RFC 4180 with a header; an empty string is "", null is nothing.
  kTsv,       // With a header; tab, newline and backslash as \t, \n and \\; null is nothing.
  kMarkdown,  // A pipe table.
  kJson,      // One array of row objects, on one line.
  kJsonl,     // One row object a line.
};

// "box", ..., as .mode and --format take it.
std::string_view OutputModeName(OutputMode mode);
std::optional<OutputMode> OutputModeNamed(std::string_view name);
// All names, for messages: "box, line, ... or jsonl".
std::string OutputModeNames();

struct FormatOptions {
  OutputMode mode = OutputMode::kBox;
  int64_t columns_max = 0;         // kBox: of the terminal; 0: as wide as need be.
  int64_t rows_max = 0;            // kBox: rows beyond are counted only; 0: all.
  int64_t cell_lines_max = 4;      // kBox: lines of a cell beyond are cut; 0: none.
  std::string null_text = "NULL";  // kBox, kLine, kMarkdown.
};

// Lines, each ended by a newline. Without columns kJson is `[]` and the others are empty.
std::string FormatResult(const query::ResultSet& result, const FormatOptions& options);

}  // namespace intarsia::client
