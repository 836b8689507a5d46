#include "client/shell/result_format.h"

#include <array>
#include <span>

#include "client/shell/result_table.h"
#include "query/lexer.h"
#include "query/suggest.h"

namespace intarsia::client {
namespace {

using query::ResultSet;
using query::Row;

// In the order of OutputMode.
constexpr std::array<std::string_view, 7> kModeNames = {"box",      "line", "csv",  "tsv",
                                                        "markdown", "json", "jsonl"};

void AppendCsvText(std::string_view text, std::string* csv) {
  if (!text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos) {
    csv->append(text);
    return;
  }
  csv->push_back('"');
  for (const char c : text) {
    if (c == '"') csv->push_back('"');
    csv->push_back(c);
  }
  csv->push_back('"');
}

void AppendTsvText(std::string_view text, std::string* tsv) {
  for (const char c : text) {
    switch (c) {
      case '\t':
        tsv->append("\\t");
        break;
      case '\n':
        tsv->append("\\n");
        break;
      case '\r':
        tsv->append("\\r");
        break;
      case '\\':
        tsv->append("\\\\");
        break;
      default:
        tsv->push_back(c);
    }
  }
}

// CSV and TSV: cells as text, joined by `separator`; a null is nothing.
std::string FormatSeparated(const ResultSet& result, char separator,
                            void (*append_text)(std::string_view, std::string*)) {
  std::string text;
  for (size_t i = 0; i < result.columns.size(); ++i) {
    if (i > 0) text.push_back(separator);
    append_text(result.columns[i].name, &text);
  }
  if (!result.columns.empty()) text.push_back('\n');
  for (const Row& row : result.rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text.push_back(separator);
      if (!row[i].is_null()) append_text(ToText(row[i], ""), &text);
    }
    text.push_back('\n');
  }
  return text;
}

void AppendJsonRow(const ResultSet& result, const Row& row, std::string* json) {
  char separator = '{';
  for (size_t i = 0; i < row.size(); ++i) {
    json->push_back(separator);
    query::AppendJsonString(result.columns[i].name, json);
    json->push_back(':');
    json->append(ToJson(row[i]));
    separator = ',';
  }
  json->append(separator == '{' ? "{}" : "}");
}

std::string FormatJson(const ResultSet& result) {
  std::string json = "[";
  for (const Row& row : result.rows) {
    if (json.size() > 1) json.push_back(',');
    AppendJsonRow(result, row, &json);
  }
  return json + "]\n";
}

std::string FormatJsonl(const ResultSet& result) {
  std::string json;
  for (const Row& row : result.rows) {
    AppendJsonRow(result, row, &json);
    json.push_back('\n');
  }
  return json;
}

}  // namespace

std::string_view OutputModeName(OutputMode mode) { return kModeNames[static_cast<size_t>(mode)]; }

std::optional<OutputMode> OutputModeNamed(std::string_view name) {
  for (size_t i = 0; i < kModeNames.size(); ++i) {
    if (query::EqualsIgnoringCase(kModeNames[i], name)) return static_cast<OutputMode>(i);
  }
  return std::nullopt;
}

std::string OutputModeNames() { return query::JoinAlternatives(kModeNames); }

std::string FormatResult(const ResultSet& result, const FormatOptions& options) {
  switch (options.mode) {
    case OutputMode::kBox:
      return FormatBox(result, options);
    case OutputMode::kLine:
      return FormatLines(result, options);
    case OutputMode::kCsv:
      return FormatSeparated(result, ',', AppendCsvText);
    case OutputMode::kTsv:
      return FormatSeparated(result, '\t', AppendTsvText);
    case OutputMode::kMarkdown:
      return FormatMarkdown(result, options);
    case OutputMode::kJson:
      return FormatJson(result);
    case OutputMode::kJsonl:
      return FormatJsonl(result);
  }
  return {};
}

}  // namespace intarsia::client
