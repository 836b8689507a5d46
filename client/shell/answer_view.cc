#include "client/shell/answer_view.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "client/shell/terminal_text.h"
#include "client/shell/word_wrap.h"

namespace intarsia::client {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

constexpr int64_t kColumnsWithoutTerminal = 1'000'000;
constexpr int64_t kFigureLinesMax = 3;

// The cell of the only row below the column of that name, or null.
const Value* CellOf(const ResultSet& result, std::string_view column) {
  for (size_t i = 0; i < result.columns.size(); ++i) {
    if (result.columns[i].name == column) return &result.rows.front()[i];
  }
  return nullptr;
}

std::string TextOf(const Value& object, std::string_view field) {
  const Value* value = object.Find(field);
  return value == nullptr ? "" : SafeLine(ToText(*value, ""));
}

// "bytes 3-9", or empty if a field is missing.
std::string RangeOf(const Value& citation, std::string_view unit, std::string_view first,
                    std::string_view last) {
  const std::string begin = TextOf(citation, first);
  const std::string end = TextOf(citation, last);
  if (begin.empty() || end.empty()) return {};
  return std::string(unit) + " " + begin + "-" + end;
}

// Number, source and place, and the quote below it.
std::string FormatCitation(const Value& citation, int64_t columns) {
  constexpr std::string_view kIndent = "    ";
  constexpr int64_t kQuoteLinesMax = 3;
  std::string line = "[" + TextOf(citation, "n") + "] " + TextOf(citation, "source");
  const std::string bytes = RangeOf(citation, "bytes", "byte_start", "byte_end");
  if (!bytes.empty()) line += "  " + bytes;
  std::string view = CutToWidth(line, columns) + "\n";
  const std::string quote = TextOf(citation, "quote");
  if (quote.empty()) return view;
  const auto indent = static_cast<int64_t>(kIndent.size());
  const int64_t quote_columns = std::max<int64_t>(columns - indent, 1);
  for (const std::string& part : WrapToWidth("\"" + quote + "\"", quote_columns, kQuoteLinesMax)) {
    view += std::string(kIndent) + part + "\n";
  }
  return view;
}

std::string MillisecondsOf(const Value* timing, std::string_view field) {
  const Value* value = timing == nullptr ? nullptr : timing->Find(field);
  if (value == nullptr) return {};
  if (value->kind() == ValueKind::kInteger) return HumanDuration(value->AsInteger());
  if (value->kind() != ValueKind::kDouble || !std::isfinite(value->AsDouble())) return {};
  return HumanDuration(std::llround(value->AsDouble()));
}

std::string CountOf(const Value* usage, std::string_view field) {
  const Value* value = usage == nullptr ? nullptr : usage->Find(field);
  const bool is_count = value != nullptr && value->kind() == ValueKind::kInteger;
  return is_count ? GroupDigits(value->AsInteger()) : std::string();
}

std::string FormatFigures(const ResultSet& result) {
  const Value* timing = CellOf(result, "timing");
  const Value* usage = CellOf(result, "usage");
  std::vector<std::string> figures;
  const auto add = [&figures](std::string_view before, const std::string& figure,
                              std::string_view after) {
    if (figure.empty()) return;
    figures.push_back(std::string(before) + figure + std::string(after));
  };
  add("retrieval ", MillisecondsOf(timing, "retrieve_ms"), "");
  add("first token ", MillisecondsOf(timing, "ttft_ms"), "");
  add("total ", MillisecondsOf(timing, "total_ms"), "");
  add("", CountOf(usage, "generated_tokens"), " tokens");
  const std::string prompt = CountOf(usage, "prompt_tokens");
  if (!prompt.empty()) {
    figures.push_back("prompt " + prompt + ": " + CountOf(usage, "reused_tokens") + " reused, " +
                      CountOf(usage, "recomputed_tokens") + " recomputed, " +
                      CountOf(usage, "fresh_tokens") + " new");
  }
  std::string line;
  for (const std::string& figure : figures) line += (line.empty() ? "" : " · ") + figure;
  return line;
}

}  // namespace

bool IsAnswer(const ResultSet& result) {
  if (result.rows.size() != 1) return false;
  const Value* citations = CellOf(result, "citations");
  return CellOf(result, "answer") != nullptr && citations != nullptr &&
         (citations->kind() == ValueKind::kList || citations->is_null());
}

std::string FormatAnswer(const ResultSet& result, AnswerText text, int64_t columns_max) {
  std::string view;
  if (text == AnswerText::kShow) {
    WordWrap wrap(columns_max);
    view = wrap.Push(SafeText(ToText(*CellOf(result, "answer"), "")));
    view += wrap.Finish() + "\n";
  }
  const Value* citations = CellOf(result, "citations");
  const int64_t columns = columns_max > 0 ? columns_max : kColumnsWithoutTerminal;
  if (!citations->is_null() && !citations->AsList().empty()) {
    view += "\n";
    for (const Value& citation : citations->AsList()) {
      view += FormatCitation(citation, columns);
    }
  }
  const std::string figures = FormatFigures(result);
  if (figures.empty()) return view;
  for (const std::string& line : WrapToWidth(figures, columns, kFigureLinesMax))
    view += line + "\n";
  return view;
}

}  // namespace intarsia::client
