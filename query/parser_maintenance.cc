#include "query/parser_maintenance.h"

#include <array>
#include <string_view>
#include <utility>

#include "query/parser_clauses.h"

namespace intarsia::query {
namespace {

constexpr std::string_view kDirectory = "a directory in single quotes";

}  // namespace

Outcome<Statement> ParseBackup(TokenCursor* cursor) {
  BackupDatabase statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("DATABASE"));
  INTARSIA_FAIL_IF(cursor->ExpectWord("TO"));
  INTARSIA_ASSIGN_OR_FAIL(statement.target, cursor->ReadPath(kDirectory));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 1> kLast = {"WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseCheck(TokenCursor* cursor) {
  if (cursor->AcceptWord("DATABASE")) {
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(CheckDatabase{});
  }
  if (cursor->AcceptWord("BACKUP")) {
    CheckBackup statement;
    INTARSIA_ASSIGN_OR_FAIL(statement.backup, cursor->ReadPath(kDirectory));
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(std::move(statement));
  }
  if (cursor->AcceptWord("MODEL")) {
    CheckModel statement;
    INTARSIA_ASSIGN_OR_FAIL(statement.name, cursor->ReadName("a model name"));
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(std::move(statement));
  }
  static constexpr std::array<std::string_view, 3> kNext = {"DATABASE", "BACKUP", "MODEL"};
  return cursor->UnexpectedKeyword(kNext);
}

Outcome<Statement> ParseCompact(TokenCursor* cursor) {
  Compact statement;
  if (cursor->AcceptWord("COLLECTION")) {
    INTARSIA_ASSIGN_OR_FAIL(Name collection, cursor->ReadName("a collection name"));
    statement.collection = std::move(collection);
  } else if (!cursor->AcceptWord("DATABASE")) {
    static constexpr std::array<std::string_view, 2> kNext = {"DATABASE", "COLLECTION"};
    return cursor->UnexpectedKeyword(kNext);
  }
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseRepair(TokenCursor* cursor) {
  INTARSIA_FAIL_IF(cursor->ExpectWord("DATABASE"));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(RepairDatabase{});
}

Outcome<Statement> ParseRestore(TokenCursor* cursor) {
  RestoreDatabase statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("DATABASE"));
  INTARSIA_FAIL_IF(cursor->ExpectWord("FROM"));
  INTARSIA_ASSIGN_OR_FAIL(statement.backup, cursor->ReadPath(kDirectory));
  INTARSIA_FAIL_IF(cursor->ExpectWord("AS"));
  INTARSIA_ASSIGN_OR_FAIL(statement.target, cursor->ReadPath(kDirectory));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

}  // namespace intarsia::query
