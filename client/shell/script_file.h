// ScriptFile: the SQL of a file, as -f and .read take it.
//
// Thread safety: may be called concurrently, but for standard input.
#pragma once

#include <string>

#include "base/result.h"

namespace intarsia::client {

// The text of a file, of a pipe, or for "-" of standard input, without the byte order mark
// that some editors put in front. Blocks until the other end of a pipe is closed.
// Errors: kNotFound, kIo; kInvalidArgument for a folder or more than 1 GiB.
Result<std::string> ReadScriptFile(const std::string& path);

}  // namespace intarsia::client
