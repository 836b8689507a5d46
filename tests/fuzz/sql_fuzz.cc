// Any text is either refused with a place inside it, or parses to a tree that its canonical form
// gives again.
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/check.h"
#include "query/ast_printer.h"
#include "query/diagnostic.h"
#include "query/filter.h"
#include "query/options.h"
#include "query/parser.h"
#include "query/schema.h"
#include "tests/fuzz/fuzz_driver.h"

namespace intarsia::fuzz {
namespace {

using query::Diagnostic;
using query::Statement;

void CheckDiagnostic(const Diagnostic& diagnostic, std::string_view sql) {
  const auto size = static_cast<int64_t>(sql.size());
  INTARSIA_CHECK(diagnostic.has_place());
  INTARSIA_CHECK(diagnostic.range.begin <= diagnostic.range.end && diagnostic.range.end <= size);
  INTARSIA_CHECK(!diagnostic.message.empty());
  INTARSIA_CHECK(!query::RenderDiagnostic(diagnostic, sql, 80).empty());
}

void CheckStatement(const Statement& statement, std::string_view sql) {
  const std::string canonical = query::ToSql(statement);
  const auto again = query::ParseStatement(canonical);
  INTARSIA_CHECK(again.ok());
  INTARSIA_CHECK(*again == statement);
  INTARSIA_CHECK(query::ToSql(*again) == canonical);

  // What is bound next takes any tree.
  static const query::CollectionSchema schema("docs", {{"lang", {query::BaseType::kVarchar, false}},
                                                       {"year", {query::BaseType::kInt, false}},
                                                       {"acl", {query::BaseType::kVarchar, true}}});
  if (const auto* remove = std::get_if<query::Delete>(&statement)) {
    const auto filter = query::Filter::Bind(remove->where, schema);
    if (!filter.ok()) return CheckDiagnostic(filter.diagnostic(), sql);
    query::Row row(schema.columns().size());
    for (size_t i = 0; i < row.size(); ++i) {
      if (schema.columns()[i].type == query::ColumnType{}) row[i] = query::Value("en");
    }
    (void)filter->Evaluate(row);
  } else if (const auto* answer = std::get_if<query::Answer>(&statement)) {
    const auto options = query::BindOptions(query::OptionTable::kAnswer, answer->options);
    if (!options.ok()) CheckDiagnostic(options.diagnostic(), sql);
  } else if (const auto* insert = std::get_if<query::Insert>(&statement)) {
    const auto documents = query::BindInsert(*insert, schema);
    if (!documents.ok()) CheckDiagnostic(documents.diagnostic(), sql);
  }
}

}  // namespace

Corpus Seeds() {
  Corpus corpus;
  corpus.inputs = {
      "CREATE MODEL IF NOT EXISTS qa TYPE GENERATE FROM '/m.gguf' WITH (dim = 384, x = 'y');",
      "CREATE COLLECTION docs (lang VARCHAR, year INT, acl VARCHAR[]) WITH (embedding = e5);",
      "COPY docs FROM 'a/**/*.md', 'b' METADATA (lang = 'en', acl = ['x']) WITH (threads = 8);",
      "INSERT INTO docs (id, content, year) VALUES ('a', 'it''s', -1), ('b', NULL, 2.5e3);",
      "SEARCH 'refund' IN docs WHERE lang = 'en' AND NOT (year >= 2023 OR year IS NULL) LIMIT 8;",
      "ANSWER 'q?' FROM docs WHERE acl CONTAINS 'hr' USING qa WITH (k = 8, fusion = 'full');",
      "EXPLAIN ANALYZE ANSWER 'größe 日本' FROM \"my docs\";",
      "DELETE FROM docs WHERE year BETWEEN 1 AND 2 OR lang NOT IN ('a', NULL) OR source LIKE '%_';",
      "DELETE FROM docs WHERE ingested_at > TIMESTAMP '2024-01-01T00:00+02:00' AND 3 < year;",
      "SELECT *, COUNT(*), title FROM docs ORDER BY title DESC, page LIMIT 3 OFFSET 1;",
      "SET search.ef = 200; SHOW SETTINGS LIKE 'x%'; CLEAR CACHE KV FOR docs; SHOW CACHE;\\G",
      "/* a /* b */ c */ SHOW MODELS -- d\n;; DROP COLLECTION IF EXISTS d; DESCRIBE \"a\"\"b\";",
      "CACHE COLLECTION docs WHERE lang = 'x' USING qa; SET DEFAULT EMBEDDING e5; DROP MODEL m;"};
  corpus.words = {"WHERE ",
                  " AND ",
                  " OR ",
                  " NOT ",
                  "(",
                  ")",
                  "'",
                  "\"",
                  "--",
                  "/*",
                  "*/",
                  ";",
                  "=>",
                  "!=",
                  "<=",
                  ",",
                  "[",
                  "]",
                  "NULL",
                  "TRUE",
                  " IN (",
                  "LIKE ",
                  " WITH (",
                  "TIMESTAMP '",
                  "日",
                  "\\G",
                  ".",
                  "1e308",
                  "9223372036854775808",
                  " IF ",
                  " DEFAULT ",
                  "9999-12-31T23:59-18:00"};
  return corpus;
}

}  // namespace intarsia::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace intarsia;  // NOLINT(google-build-using-namespace): one function.
  const std::string_view sql(reinterpret_cast<const char*>(data), size);
  int64_t end = 0;
  while (const std::optional<query::ScriptPiece> piece = query::NextPiece(sql, end)) {
    INTARSIA_CHECK(piece->range.begin >= end && piece->range.begin < piece->range.end);
    INTARSIA_CHECK(piece->range.end < piece->next && piece->next <= static_cast<int64_t>(size));
    end = piece->next;
  }

  const auto statements = query::ParseScript(sql);
  if (!statements.ok()) {
    fuzz::CheckDiagnostic(statements.diagnostic(), sql);
    return 0;
  }
  for (const query::ParsedStatement& parsed : *statements) {
    fuzz::CheckStatement(parsed.statement, sql);
  }
  return 0;
}
