#include "client/shell/help_text.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "client/shell/dot_command.h"
#include "client/shell/result_format.h"
#include "client/shell/terminal_text.h"
#include "client/shell/word_wrap.h"
#include "query/lexer.h"
#include "query/options.h"
#include "query/suggest.h"

namespace intarsia::client {
namespace {

using query::OptionTable;

struct Topic {
  std::string_view name;
  std::string_view help;
  std::string_view syntax;
  std::optional<OptionTable> options;
};

constexpr std::array<Topic, 18> kTopics = {{
    {"answer", "Answers a question from a collection, with citations.",
     "ANSWER 'question' FROM collection [WHERE condition] [USING model]\n  [WITH (option = value, "
     "...)];",
     OptionTable::kAnswer},
    {"search", "Finds the chunks that fit a text.",
     "SEARCH 'text' IN collection [WHERE condition] [LIMIT n] [WITH (option = value, ...)];",
     OptionTable::kSearch},
    {"select", "Shows chunks and their columns.",
     "SELECT column, ... | * | COUNT(*) FROM collection [WHERE condition]\n  [ORDER BY column "
     "[ASC|DESC], ...] [LIMIT n] [OFFSET n];\n"
     "SELECT column, ... | SCORE() | SNIPPET(content) FROM collection\n"
     "  SEARCH MATCH TEXT (content, 'text'), MATCH VECTOR (embedding, EMBED('text')),\n"
     "         FUSION rrf (k => 60, weights => [1, 1])\n"
     "  [WHERE condition] [RERANK USING model TOP n] [LIMIT n] [OFFSET n];",
     std::nullopt},
    {"copy", "Reads files into a collection.",
     "COPY collection FROM 'path or pattern', ... [METADATA (column = value, ...)]\n  [WITH "
     "(option "
     "= value, ...)];",
     OptionTable::kCopy},
    {"insert", "Adds documents from text.",
     "INSERT INTO collection (id, content, column, ...) VALUES ('...', '...', value, ...), ...;",
     std::nullopt},
    {"delete", "Removes documents.",
     "DELETE FROM collection WHERE condition [WITH (secure = true)];", OptionTable::kDelete},
    {"create collection", "Makes a collection.",
     "CREATE COLLECTION [IF NOT EXISTS] name [(column TYPE, ...)] [WITH (option = value, ...)];\n"
     "  TYPE: VARCHAR, INT, DOUBLE, BOOLEAN, TIMESTAMP, or one of them with []",
     OptionTable::kCreateCollection},
    {"create model", "Registers a model file.",
     "CREATE MODEL [IF NOT EXISTS] name [TYPE GENERATE|EMBEDDING|RERANK] FROM 'path'\n  [WITH "
     "(option = "
     "value, ...)];\nSET DEFAULT GENERATE|EMBEDDING|RERANK model;",
     OptionTable::kCreateModel},
    {"drop", "Removes a model or a collection with its documents.",
     "DROP MODEL [IF EXISTS] name;\nDROP COLLECTION [IF EXISTS] name [WITH (secure = true)];",
     std::nullopt},
    {"alter", "Changes options of a collection.", "ALTER COLLECTION name SET (kv_ttl = '7d');",
     OptionTable::kAlterCollection},
    {"compact", "Gives the space of what was deleted back.",
     "COMPACT DATABASE;\nCOMPACT COLLECTION collection;", std::nullopt},
    {"show", "Lists what there is.",
     "SHOW MODELS;\nSHOW COLLECTIONS;\nSHOW INDEXES [FOR collection];\nSHOW CACHE [FOR "
     "collection];\nSHOW SETTINGS [LIKE "
     "'pattern'];\nDESCRIBE collection;",
     std::nullopt},
    {"cache", "Computes, pins and removes attention caches.",
     "CACHE COLLECTION collection [WHERE condition] [USING model];\nPIN CACHE FOR collection "
     "[WHERE condition] [TIER MEMORY | DISK];\nUNPIN CACHE FOR collection [WHERE "
     "condition];\nCLEAR CACHE [KV] [FOR collection];",
     std::nullopt},
    {"backup", "Copies the database while it is in use, and brings it back.",
     "BACKUP DATABASE TO 'directory' [WITH (base = 'earlier backup')];\nCHECK BACKUP "
     "'directory';\nRESTORE DATABASE FROM 'backup' AS 'directory';",
     OptionTable::kBackup},
    {"check",
     "Reads everything and says what is damaged; REPAIR makes good what it can. CHECK MODEL "
     "measures in which form a model's caches may be kept.",
     "CHECK DATABASE;\nREPAIR DATABASE;\nCHECK MODEL name;", std::nullopt},
    {"explain", "Shows how a statement runs; ANALYZE runs it.",
     "EXPLAIN [ANALYZE] SEARCH ... | ANSWER ... | SELECT ... SEARCH ...;", std::nullopt},
    {"where", "Conditions on columns.",
     "column = != < <= > >= value    column [NOT] BETWEEN a AND b\n"
     "column [NOT] IN (a, b, ...)    column [NOT] LIKE 'pattern with % and _'\n"
     "column [NOT] CONTAINS value    column IS [NOT] NULL | EMPTY\n"
     "AND, OR, NOT, ( ); TIMESTAMP '2025-01-31T12:00:00Z'; lists in brackets: ['a', 'b']",
     std::nullopt},
    {"settings", "Settings of this session.", "SET name = value;", OptionTable::kSettings},
}};

bool BeginsWithWords(std::string_view line, std::string_view words) {
  return query::EqualsIgnoringCase(line.substr(0, words.size()), words) &&
         (line.size() == words.size() || line[words.size()] == ' ' || line[words.size()] == ';');
}

// Whether a statement of the topic begins with these words: "show cache", "pin".
bool HasStatement(const Topic& topic, std::string_view words) {
  for (std::string_view rest = topic.syntax; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    if (BeginsWithWords(rest.substr(0, end), words)) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

// The topic of that name, or else all with a statement that begins so; of "copy from" the first
// word is enough.
std::vector<const Topic*> FindTopics(std::string_view name) {
  for (const Topic& topic : kTopics) {
    if (query::EqualsIgnoringCase(topic.name, name)) return {&topic};
  }
  std::vector<const Topic*> found;
  for (const Topic& topic : kTopics) {
    if (!name.empty() && HasStatement(topic, name)) found.push_back(&topic);
  }
  const size_t blank = name.rfind(' ');
  if (!found.empty() || blank == std::string_view::npos) return found;
  return FindTopics(name.substr(0, blank));
}

std::string DescribeTopic(const Topic& topic, int64_t columns_max) {
  WordWrap wrap(columns_max);
  // The newline ends the last word, which would be held back otherwise.
  std::string text = wrap.Push(std::string(topic.help) + "\n\n");
  text += std::string(topic.syntax) + "\n";
  if (topic.options) {
    FormatOptions options;
    options.columns_max = columns_max;
    options.cell_lines_max = 0;
    options.null_text = "";
    text += "\n" + FormatResult(query::DescribeOptions(*topic.options), options);
  }
  return text;
}

// A line of the overview, whose help goes on below itself.
std::string OverviewLine(std::string_view name, std::string_view help, int64_t columns_max) {
  constexpr int64_t kNameColumns = 26;
  constexpr int64_t kHelpColumnsMin = 30;  // On a narrower terminal the help is below the name.
  constexpr int64_t kIndent = 2;
  if (columns_max <= 0) {
    return "  " + Pad(name, kNameColumns, Alignment::kLeft) + std::string(help) + "\n";
  }
  const bool is_beside = columns_max >= kIndent + kNameColumns + kHelpColumnsMin;
  const int64_t begin = is_beside ? kIndent + kNameColumns : 2 * kIndent;
  std::string text = "  " + std::string(name);
  std::string gap =
      is_beside
          ? std::string(
                static_cast<size_t>(std::max<int64_t>(1, kNameColumns - DisplayWidth(name))), ' ')
          : "\n" + std::string(static_cast<size_t>(begin), ' ');
  for (const std::string& line :
       WrapToWidth(help, std::max<int64_t>(1, columns_max - begin), INT64_MAX)) {
    text += gap + line;
    gap = "\n" + std::string(static_cast<size_t>(begin), ' ');
  }
  return text + "\n";
}

}  // namespace

std::string HelpOverview(int64_t columns_max) {
  WordWrap wrap(columns_max);
  std::string text = wrap.Push(
      "Statements end with ; or with \\G for rows one below the other."
      " .help answer shows the syntax of one.\n");
  for (const Topic& topic : kTopics) text += OverviewLine(topic.name, topic.help, columns_max);
  text += "Commands, which may be shortened:\n";
  for (const DotCommandSpec& command : DotCommands()) {
    const std::string name = std::string(command.name) + " " + std::string(command.arguments);
    text += OverviewLine(name, command.help, columns_max);
  }
  return text;
}

query::Outcome<std::string> HelpTopic(std::string_view name, int64_t columns_max) {
  std::string text;
  for (const Topic* topic : FindTopics(name)) {
    text += (text.empty() ? "" : "\n") + DescribeTopic(*topic, columns_max);
  }
  if (!text.empty()) return text;
  std::vector<std::string_view> names;
  names.reserve(kTopics.size());
  for (const Topic& topic : kTopics) names.push_back(topic.name);
  std::string hint = query::DidYouMean(query::NearestName(name, names));
  if (hint.empty()) hint = "There is help for " + query::JoinAlternatives(names) + ".";
  return query::InputError({}, "no help for: " + std::string(name.substr(0, 64)), std::move(hint));
}

}  // namespace intarsia::client
