#include "client/shell/dot_command.h"

#include <array>
#include <utility>

#include "query/suggest.h"

namespace intarsia::client {
namespace {

using query::InputError;
using query::Outcome;
using Kind = DotCommandKind;

constexpr std::array<DotCommandSpec, 14> kCommands = {{
    {".cache", Kind::kCache, 1, "[COLLECTION]", "What the caches hold."},
    {".collections", Kind::kCollections, 0, "", "The collections."},
    {".exit", Kind::kExit, 0, "", "Leaves."},
    {".help", Kind::kHelp, 2, "[TOPIC]", "This list, or the syntax and options of a statement."},
    {".maxrows", Kind::kMaxRows, 1, "[N]", "Rows that a table shows; 0: all."},
    {".mode", Kind::kMode, 1, "[MODE]", "Output mode: box, line, csv, tsv, markdown, json, jsonl."},
    {".models", Kind::kModels, 0, "", "The models."},
    {".nullvalue", Kind::kNullValue, 1, "[TEXT]", "What stands for null in tables."},
    {".output", Kind::kOutput, 1, "[FILE]", "Writes results to a file; alone, back to the screen."},
    {".quit", Kind::kExit, 0, "", "Leaves."},
    {".read", Kind::kRead, 1, "FILE", "Runs the statements of a file."},
    {".schema", Kind::kSchema, 1, "COLLECTION", "The columns and options of a collection."},
    {".settings", Kind::kSettings, 1, "[PATTERN]", "The settings, or those LIKE a pattern."},
    {".timer", Kind::kTimer, 1, "[on|off]", "Whether each statement's time is shown."},
}};

// The command of that name, or the only one that begins with it.
Outcome<const DotCommandSpec*> FindCommand(std::string_view name) {
  std::vector<std::string_view> names;
  names.reserve(kCommands.size());
  std::vector<const DotCommandSpec*> matches;
  for (const DotCommandSpec& command : kCommands) {
    if (command.name == name) return &command;
    names.push_back(command.name);
    if (command.name.starts_with(name)) matches.push_back(&command);
  }
  if (matches.size() == 1) return matches.front();
  if (matches.size() > 1 && name.size() > 1) {
    std::vector<std::string_view> candidates;
    candidates.reserve(matches.size());
    for (const DotCommandSpec* match : matches) candidates.push_back(match->name);
    return InputError({}, "command is not unique: " + std::string(name),
                      "It may be " + query::JoinAlternatives(candidates) + ".");
  }
  std::string hint = query::DidYouMean(query::NearestName(name, names));
  if (hint.empty()) hint = ".help lists the commands.";
  return InputError({}, "unknown command: " + std::string(name.substr(0, 64)), std::move(hint));
}

// Words of a line; quotes keep blanks together and are taken off.
Outcome<std::vector<std::string>> SplitWords(std::string_view line) {
  std::vector<std::string> words;
  bool is_in_word = false;
  char quote = '\0';
  for (const char c : line) {
    const bool is_blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (quote != '\0') {
      if (c == quote) {
        quote = '\0';
      } else {
        words.back() += c;
      }
    } else if (is_blank) {
      is_in_word = false;
    } else {
      if (!is_in_word) words.emplace_back();
      is_in_word = true;
      if (c == '\'' || c == '"') {
        quote = c;
      } else {
        words.back() += c;
      }
    }
  }
  if (quote != '\0') return InputError({}, "argument without its closing quote");
  return words;
}

}  // namespace

std::span<const DotCommandSpec> DotCommands() { return kCommands; }

Outcome<DotCommand> ParseDotCommand(std::string_view line) {
  INTARSIA_ASSIGN_OR_FAIL(std::vector<std::string> words, SplitWords(line));
  // People end everything with a semicolon.
  while (!words.empty() && words.back().ends_with(';')) {
    words.back().pop_back();
    if (words.back().empty()) words.pop_back();
  }
  if (words.empty()) return InputError({}, "command without a name", ".help lists the commands.");
  INTARSIA_ASSIGN_OR_FAIL(const DotCommandSpec* spec, FindCommand(words.front()));
  words.erase(words.begin());
  if (static_cast<int64_t>(words.size()) > spec->num_arguments_max) {
    return InputError({}, "too many arguments: " + std::string(spec->name),
                      "It is written " + std::string(spec->name) +
                          (spec->arguments.empty() ? "" : " " + std::string(spec->arguments)) +
                          ".");
  }
  return DotCommand{spec->kind, std::move(words)};
}

}  // namespace intarsia::client
