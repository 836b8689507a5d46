// CompleteLine: the words that may stand at the end of a line of the shell.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace intarsia::client {

// Commands at the beginning of a line with a dot, else keywords, options and `names` of collections
// and models, that begin with the last word of `line`; sorted, without repetition. A keyword is
// lower case if the word is, and a name is in quotes if a statement needs them; one with control
// characters is left out.
std::vector<std::string> CompleteLine(std::string_view line, const std::vector<std::string>& names);

}  // namespace intarsia::client
