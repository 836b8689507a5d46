// ExpandPaths: paths and glob patterns to files.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace intarsia::engine {

// Files for paths and patterns (`*` and `?` within a name, `[a-z]`, `{a,b}`, `**` for any depth). A
// directory stands for all files below it. Names that begin with a dot are found only by patterns
// that say so, and directories that are symbolic links are entered only where a pattern matches
// them, so that a link to a directory above does no harm. Sorted, without repetition.
// Errors: kNotFound if one matches nothing, with the pattern; kInvalidArgument for a pattern with
// an unclosed brace, too many alternatives or more than 4,096 bytes.
Result<std::vector<std::string>> ExpandPaths(const std::vector<std::string>& patterns,
                                             FileSystem* file_system);

// Whether `name`, without slashes, matches `pattern` with `*`, `?` and `[...]`.
bool MatchesName(std::string_view pattern, std::string_view name);

}  // namespace intarsia::engine
