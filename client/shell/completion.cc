#include "client/shell/completion.h"

#include <algorithm>
#include <array>

#include "client/shell/dot_command.h"
#include "client/shell/terminal_text.h"
#include "query/ast_printer.h"
#include "query/lexer.h"
#include "query/options.h"

namespace intarsia::client {
namespace {

using query::OptionTable;

constexpr std::array<std::string_view, 69> kKeywords = {
    "ALTER",   "ANALYZE",  "AND",      "ANSWER",   "AS",     "ASC",        "BACKUP",
    "BETWEEN", "BOOLEAN",  "CACHE",    "CHECK",    "CLEAR",  "COLLECTION", "COLLECTIONS",
    "COMPACT", "CONTAINS", "COPY",     "COUNT(*)", "CREATE", "DATABASE",   "DEFAULT",
    "DELETE",  "DESC",     "DESCRIBE", "DISK",     "DOUBLE", "DROP",       "EMBEDDING",
    "EMPTY",   "EXISTS",   "EXPLAIN",  "FROM",     "FUSION", "GENERATE",   "IF",
    "INDEXES", "INSERT",   "INT",      "INTO",     "IS",     "LIKE",       "LIMIT",
    "MATCH",   "MEMORY",   "METADATA", "MODEL",    "MODELS", "NOT",        "NULL",
    "OFFSET",  "ORDER",    "PIN",      "REPAIR",   "RERANK", "RESTORE",    "SEARCH",
    "SELECT",  "SET",      "SETTINGS", "SHOW",     "TIER",   "TIMESTAMP",  "TO",
    "UNPIN",   "USING",    "VALUES",   "VARCHAR",  "WHERE",  "WITH"};

constexpr std::array<OptionTable, 8> kTables = {
    OptionTable::kCreateModel, OptionTable::kCreateCollection,
    OptionTable::kCopy,        OptionTable::kSearch,
    OptionTable::kAnswer,      OptionTable::kSettings,
    OptionTable::kBackup,      OptionTable::kDelete};

bool BeginsWith(std::string_view word, std::string_view beginning) {
  return word.size() >= beginning.size() &&
         query::EqualsIgnoringCase(word.substr(0, beginning.size()), beginning);
}

std::string ToLower(std::string_view word) {
  std::string lower(word);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return lower;
}

}  // namespace

std::vector<std::string> CompleteLine(std::string_view line,
                                      const std::vector<std::string>& names) {
  std::vector<std::string> words;
  if (line.starts_with('.') && line.find_first_of(" \t") == std::string_view::npos) {
    for (const DotCommandSpec& command : DotCommands()) {
      if (command.name.starts_with(line)) words.emplace_back(command.name);
    }
    return words;
  }
  const size_t before = line.find_last_of(" \t(,;=");
  const std::string_view word = before == std::string_view::npos ? line : line.substr(before + 1);
  if (word.empty()) return words;
  const bool is_lower = word.front() >= 'a' && word.front() <= 'z';
  for (const std::string_view keyword : kKeywords) {
    if (BeginsWith(keyword, word)) {
      words.push_back(is_lower ? ToLower(keyword) : std::string(keyword));
    }
  }
  for (const OptionTable table : kTables) {
    for (const query::OptionSpec& option : OptionsOf(table)) {
      if (option.name.starts_with(word)) words.emplace_back(option.name);
    }
  }
  for (const std::string& name : names) {
    // Who named a collection may have meant to write to the terminal of whoever lists it.
    if (SafeLine(name) != name) continue;
    const std::string written = query::QuoteName(name);
    if (name.starts_with(word) || written.starts_with(word)) words.push_back(written);
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

}  // namespace intarsia::client
