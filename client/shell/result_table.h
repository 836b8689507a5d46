// FormatBox, FormatMarkdown, FormatLines: the modes for people.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <string>

#include "client/shell/result_format.h"
#include "query/value.h"

namespace intarsia::client {

// Cells that do not fit are wrapped, and cut after a few lines unless they stand alone. Where even
// the narrowest columns do not fit into columns_max, as FormatLines.
std::string FormatBox(const query::ResultSet& result, const FormatOptions& options);
std::string FormatMarkdown(const query::ResultSet& result, const FormatOptions& options);
std::string FormatLines(const query::ResultSet& result, const FormatOptions& options);

}  // namespace intarsia::client
