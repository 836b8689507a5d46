// CommandLine: what `intarsia` was asked for.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/shell/result_format.h"

namespace intarsia::client {

// What the program returns to the shell of the system.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // A statement failed.
inline constexpr int kExitUsage = 2;   // Bad usage, or the database cannot be opened.

enum class AccessMode : uint8_t { kReadWrite, kReadOnly };
// What to do with a database that has lost its last commits.
enum class LostCommits : uint8_t { kRefuse, kAccept };

struct CommandLine {
  std::string database;               // A directory or an address; empty: in memory.
  std::vector<std::string> commands;  // -c, in order; they run before the files.
  std::vector<std::string> files;     // -f, in order.
  std::optional<OutputMode> mode;
  AccessMode access = AccessMode::kReadWrite;
  LostCommits lost_commits = LostCommits::kRefuse;

  // Whether statements come from the command line, not from standard input.
  bool has_script() const { return !commands.empty() || !files.empty(); }
};

// The program ends at once: after --help and --version, or because of bad usage.
struct CommandLineEnd {
  int exit_code = kExitOk;
  std::string text;  // For standard output if exit_code is kExitOk, else for standard error.
};

// `arguments` are those behind the program's name.
std::variant<CommandLine, CommandLineEnd> ParseCommandLine(std::vector<std::string> arguments);

}  // namespace intarsia::client
