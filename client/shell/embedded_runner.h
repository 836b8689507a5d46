// OpenRunner: the runner for what the command line names.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <memory>

#include "base/result.h"
#include "client/shell/command_line.h"
#include "client/shell/statement_runner.h"

namespace intarsia::client {

// Opens the directory with an engine inside this process. Without one, a temporary directory that
// is removed with the runner.
// Errors: those of engine::Engine::Open; kUnsupported for an address of a server; kIo if there is
// no temporary directory.
Result<std::unique_ptr<StatementRunner>> OpenRunner(const CommandLine& command_line);

}  // namespace intarsia::client
