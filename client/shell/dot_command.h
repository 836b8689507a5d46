// DotCommand: a line that begins with a dot: `.mode json`.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/diagnostic.h"

namespace intarsia::client {

enum class DotCommandKind : uint8_t {
  kCache,
  kCollections,
  kExit,
  kHelp,
  kMaxRows,
  kMode,
  kModels,
  kNullValue,
  kOutput,
  kRead,
  kSchema,
  kSettings,
  kTimer,
};

struct DotCommandSpec {
  std::string_view name;  // With its dot.
  DotCommandKind kind;
  int64_t num_arguments_max;
  std::string_view arguments;  // For help: "[FILE]".
  std::string_view help;
};

// Sorted by name.
std::span<const DotCommandSpec> DotCommands();

struct DotCommand {
  DotCommandKind kind = DotCommandKind::kHelp;
  std::vector<std::string> arguments;
};

// `line` begins with a dot. A name may be shortened as long as only one fits; arguments are parted
// by blanks and may stand in quotes of either kind.
// Errors: kInput with the nearest name.
query::Outcome<DotCommand> ParseDotCommand(std::string_view line);

}  // namespace intarsia::client
