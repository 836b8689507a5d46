// Log: one line of diagnostics, to standard error.
//
// What a user must read is a Status or a notice; the log is for whoever looks after the machine.
//
// Thread safety: thread-safe.
#pragma once

#include <string_view>

namespace intarsia {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Lines below `level` are dropped from now on. Default: kWarning.
void SetLogLevel(LogLevel level);

void Log(LogLevel level, std::string_view message);

}  // namespace intarsia
