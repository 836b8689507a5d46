#include "query/parser_statements.h"

#include <array>
#include <string>
#include <type_traits>
#include <utility>

#include "query/parser.h"
#include "query/parser_clauses.h"
#include "query/parser_maintenance.h"
#include "query/parser_search.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

constexpr std::array<std::string_view, 3> kModelTypes = {"GENERATE", "EMBEDDING", "RERANK"};

Outcome<bool> ParseIfExists(TokenCursor* cursor) {
  if (!cursor->AcceptWord("IF")) return false;
  INTARSIA_FAIL_IF(cursor->ExpectWord("EXISTS"));
  return true;
}

Outcome<bool> ParseIfNotExists(TokenCursor* cursor) {
  if (!cursor->AcceptWord("IF")) return false;
  INTARSIA_FAIL_IF(cursor->ExpectWord("NOT"));
  INTARSIA_FAIL_IF(cursor->ExpectWord("EXISTS"));
  return true;
}

Outcome<ModelType> ParseModelType(TokenCursor* cursor) {
  if (cursor->AcceptWord("GENERATE")) return ModelType::kGenerate;
  if (cursor->AcceptWord("EMBEDDING")) return ModelType::kEmbedding;
  if (cursor->AcceptWord("RERANK")) return ModelType::kRerank;
  return cursor->UnexpectedKeyword(kModelTypes);
}

Outcome<std::optional<Name>> ParseUsing(TokenCursor* cursor) {
  if (!cursor->AcceptWord("USING")) return std::optional<Name>();
  INTARSIA_ASSIGN_OR_FAIL(Name model, cursor->ReadName("a model name"));
  return std::optional<Name>(std::move(model));
}

Outcome<Name> ReadCollection(TokenCursor* cursor) { return cursor->ReadName("a collection name"); }

Outcome<std::optional<Name>> ParseFor(TokenCursor* cursor) {
  if (!cursor->AcceptWord("FOR")) return std::optional<Name>();
  INTARSIA_ASSIGN_OR_FAIL(Name collection, ReadCollection(cursor));
  return std::optional<Name>(std::move(collection));
}

Outcome<Statement> ParseCreateModel(TokenCursor* cursor) {
  CreateModel statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.if_not_exists, ParseIfNotExists(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.name, cursor->ReadName("a model name"));
  const bool has_type = cursor->AcceptWord("TYPE");
  if (has_type) {
    INTARSIA_ASSIGN_OR_FAIL(statement.type, ParseModelType(cursor));
  }
  static constexpr std::array<std::string_view, 2> kNext = {"FROM", "TYPE"};
  if (!cursor->AcceptWord("FROM")) {
    return cursor->UnexpectedKeyword({kNext.data(), has_type ? size_t{1} : size_t{2}});
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.path, cursor->ReadPath("the model's path in single quotes"));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 1> kLast = {"WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseCreateCollection(TokenCursor* cursor) {
  CreateCollection statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.if_not_exists, ParseIfNotExists(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.name, ReadCollection(cursor));
  if (cursor->Accept(TokenKind::kLeftParen)) {
    do {
      if (static_cast<int64_t>(statement.columns.size()) == kOptionsMax) {
        return ParserError(cursor->range(),
                           "more than " + std::to_string(kOptionsMax) + " columns");
      }
      ColumnDefinition column;
      INTARSIA_ASSIGN_OR_FAIL(column.name, cursor->ReadName("a column name"));
      INTARSIA_ASSIGN_OR_FAIL(column.type, ParseColumnType(cursor));
      statement.columns.push_back(std::move(column));
    } while (cursor->Accept(TokenKind::kComma));
    if (!cursor->Accept(TokenKind::kRightParen)) return cursor->Unexpected("\",\" or \")\"");
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 1> kLast = {"WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseCreate(TokenCursor* cursor) {
  if (cursor->AcceptWord("MODEL")) return ParseCreateModel(cursor);
  if (cursor->AcceptWord("COLLECTION")) return ParseCreateCollection(cursor);
  static constexpr std::array<std::string_view, 2> kNext = {"MODEL", "COLLECTION"};
  const bool says_table = cursor->IsWord("TABLE") || cursor->IsWord("DATABASE");
  return cursor->Unexpected(JoinAlternatives(kNext), kNext,
                            says_table ? "Documents are kept in a COLLECTION." : "");
}

Outcome<Statement> ParseAlter(TokenCursor* cursor) {
  AlterCollection statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("COLLECTION"));
  INTARSIA_ASSIGN_OR_FAIL(statement.name, ReadCollection(cursor));
  INTARSIA_FAIL_IF(cursor->ExpectWord("SET"));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseOptionList(cursor, "SET"));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

template <typename T>
Outcome<Statement> ParseDropOf(TokenCursor* cursor, std::string_view what) {
  T statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.if_exists, ParseIfExists(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.name, cursor->ReadName(what));
  if constexpr (std::is_same_v<T, DropCollection>) {
    INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  }
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseDrop(TokenCursor* cursor) {
  if (cursor->AcceptWord("MODEL")) return ParseDropOf<DropModel>(cursor, "a model name");
  if (cursor->AcceptWord("COLLECTION")) {
    return ParseDropOf<DropCollection>(cursor, "a collection name");
  }
  static constexpr std::array<std::string_view, 2> kNext = {"MODEL", "COLLECTION"};
  return cursor->UnexpectedKeyword(kNext);
}

// [FOR collection] behind SHOW CACHE and SHOW INDEXES.
template <typename Show>
Outcome<Statement> ParseShowFor(TokenCursor* cursor) {
  Show statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ParseFor(cursor));
  static constexpr std::array<std::string_view, 1> kLast = {"FOR"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseShow(TokenCursor* cursor) {
  if (cursor->AcceptWord("MODELS")) {
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(ShowModels{});
  }
  if (cursor->AcceptWord("COLLECTIONS")) {
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(ShowCollections{});
  }
  if (cursor->AcceptWord("CACHE")) return ParseShowFor<ShowCache>(cursor);
  if (cursor->AcceptWord("INDEXES")) return ParseShowFor<ShowIndexes>(cursor);
  if (cursor->AcceptWord("SETTINGS")) {
    ShowSettings statement;
    if (cursor->AcceptWord("LIKE")) {
      INTARSIA_ASSIGN_OR_FAIL(statement.like, cursor->ReadText("a pattern in single quotes"));
    }
    static constexpr std::array<std::string_view, 1> kLast = {"LIKE"};
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
    return Statement(std::move(statement));
  }
  static constexpr std::array<std::string_view, 5> kNext = {"MODELS", "COLLECTIONS", "INDEXES",
                                                            "CACHE", "SETTINGS"};
  return cursor->UnexpectedKeyword(kNext);
}

Outcome<Statement> ParseSet(TokenCursor* cursor) {
  if (cursor->IsWord("DEFAULT")) {
    cursor->Advance();
    SetDefaultModel statement;
    INTARSIA_ASSIGN_OR_FAIL(statement.type, ParseModelType(cursor));
    INTARSIA_ASSIGN_OR_FAIL(statement.name, cursor->ReadName("a model name"));
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
    return Statement(std::move(statement));
  }
  SetSetting statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.name, ParseDottedName(cursor, "a setting or DEFAULT"));
  if (!cursor->AcceptWord("TO")) INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kEqual, "="));
  INTARSIA_ASSIGN_OR_FAIL(statement.value, ParseOptionValue(cursor));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseDescribe(TokenCursor* cursor) {
  Describe statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseCopy(TokenCursor* cursor) {
  Copy statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  INTARSIA_FAIL_IF(cursor->ExpectWord("FROM"));
  do {
    if (static_cast<int64_t>(statement.sources.size()) == kTermsMax) {
      return ParserError(cursor->range(), "more than " + std::to_string(kTermsMax) + " paths");
    }
    INTARSIA_ASSIGN_OR_FAIL(Text source, cursor->ReadPath("a path or pattern in single quotes"));
    statement.sources.push_back(std::move(source));
  } while (cursor->Accept(TokenKind::kComma));
  if (cursor->AcceptWord("METADATA")) {
    INTARSIA_ASSIGN_OR_FAIL(statement.metadata, ParseOptionList(cursor, "METADATA"));
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 2> kLast = {"METADATA", "WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<std::vector<Literal>> ParseInsertRow(TokenCursor* cursor, size_t num_columns) {
  const int64_t begin = cursor->range().begin;
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kLeftParen, "("));
  std::vector<Literal> row;
  do {
    INTARSIA_ASSIGN_OR_FAIL(Literal value, ParseLiteral(cursor, "a value"));
    row.push_back(std::move(value));
    if (row.size() > num_columns) break;
  } while (cursor->Accept(TokenKind::kComma));
  if (row.size() <= num_columns && !cursor->Accept(TokenKind::kRightParen)) {
    return cursor->Unexpected("\",\" or \")\"");
  }
  if (row.size() != num_columns) {
    const bool is_more = row.size() > num_columns;
    return ParserError({begin, cursor->previous_end()},
                       std::string("row with too ") + (is_more ? "many" : "few") +
                           " values: columns=" + std::to_string(num_columns) +
                           (is_more ? "" : " values=" + std::to_string(row.size())));
  }
  return row;
}

Outcome<Statement> ParseInsert(TokenCursor* cursor) {
  Insert statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("INTO"));
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  if (!cursor->Accept(TokenKind::kLeftParen)) {
    return cursor->Unexpected("\"(\"", {},
                              "Columns are named: INSERT INTO " + statement.collection.text +
                                  " (id, content) VALUES ('...', '...').");
  }
  do {
    if (static_cast<int64_t>(statement.columns.size()) == kOptionsMax) {
      return ParserError(cursor->range(), "more than " + std::to_string(kOptionsMax) + " columns");
    }
    INTARSIA_ASSIGN_OR_FAIL(Name column, cursor->ReadName("a column name"));
    statement.columns.push_back(std::move(column));
  } while (cursor->Accept(TokenKind::kComma));
  if (!cursor->Accept(TokenKind::kRightParen)) return cursor->Unexpected("\",\" or \")\"");
  INTARSIA_FAIL_IF(cursor->ExpectWord("VALUES"));
  do {
    INTARSIA_ASSIGN_OR_FAIL(std::vector<Literal> row,
                            ParseInsertRow(cursor, statement.columns.size()));
    statement.rows.push_back(std::move(row));
  } while (cursor->Accept(TokenKind::kComma));
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, {}));
  return Statement(std::move(statement));
}

Outcome<Answer> ParseAnswer(TokenCursor* cursor) {
  Answer statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.question, cursor->ReadText("the question in single quotes"));
  if (!cursor->AcceptWord("FROM")) {
    static constexpr std::array<std::string_view, 1> kNext = {"FROM"};
    return cursor->Unexpected(
        "FROM", kNext,
        cursor->IsWord("IN") ? "ANSWER 'question' FROM collection; SEARCH takes IN." : "");
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.where, ParseWhere(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.model, ParseUsing(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 3> kLast = {"WHERE", "USING", "WITH"};
  const bool says_limit = cursor->IsWord("LIMIT");
  if (says_limit) {
    return cursor->Unexpected("WHERE, USING, WITH or the end of the statement", {},
                              "How many chunks an answer reads is an option: WITH (k = 8).");
  }
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return statement;
}

template <typename T>
Outcome<Statement> Widen(Outcome<T> outcome) {
  if (!outcome.ok()) return std::move(outcome).diagnostic();
  return Statement(*std::move(outcome));
}

Outcome<Statement> ParseSearchStatement(TokenCursor* cursor) { return Widen(ParseSearch(cursor)); }
Outcome<Statement> ParseAnswerStatement(TokenCursor* cursor) { return Widen(ParseAnswer(cursor)); }
Outcome<Statement> ParseSelectStatement(TokenCursor* cursor) { return Widen(ParseSelect(cursor)); }

Outcome<Statement> ParseExplain(TokenCursor* cursor) {
  Explain statement;
  statement.is_analyze = cursor->AcceptWord("ANALYZE");
  if (cursor->AcceptWord("SEARCH")) {
    INTARSIA_ASSIGN_OR_FAIL(statement.statement, ParseSearch(cursor));
    return Statement(std::move(statement));
  }
  if (cursor->AcceptWord("ANSWER")) {
    INTARSIA_ASSIGN_OR_FAIL(statement.statement, ParseAnswer(cursor));
    return Statement(std::move(statement));
  }
  if (cursor->IsWord("SELECT")) {
    const SourceRange place = cursor->range();
    cursor->Advance();
    INTARSIA_ASSIGN_OR_FAIL(Select select, ParseSelect(cursor));
    if (!select.search.has_value()) {
      return ParserError(place, "only a SELECT with SEARCH has a plan to explain",
                         "SELECT ... FROM collection SEARCH MATCH TEXT (content, 'text').");
    }
    statement.statement = std::move(select);
    return Statement(std::move(statement));
  }
  static constexpr std::array<std::string_view, 4> kNext = {"SEARCH", "ANSWER", "SELECT",
                                                            "ANALYZE"};
  return cursor->UnexpectedKeyword({kNext.data(), statement.is_analyze ? size_t{3} : size_t{4}});
}

Outcome<Statement> ParseCache(TokenCursor* cursor) {
  CacheCollection statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("COLLECTION"));
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.where, ParseWhere(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.model, ParseUsing(cursor));
  static constexpr std::array<std::string_view, 2> kLast = {"WHERE", "USING"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseClear(TokenCursor* cursor) {
  ClearCache statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("CACHE"));
  if (cursor->AcceptWord("KV")) statement.kind = CacheKind::kKv;
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ParseFor(cursor));
  static constexpr std::array<std::string_view, 2> kLast = {"KV", "FOR"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

// CACHE FOR collection [WHERE condition] behind PIN and UNPIN.
template <typename T>
Failure ParsePinned(TokenCursor* cursor, T* statement) {
  INTARSIA_FAIL_IF(cursor->ExpectWord("CACHE"));
  INTARSIA_FAIL_IF(cursor->ExpectWord("FOR"));
  INTARSIA_ASSIGN_OR_FAIL(statement->collection, ReadCollection(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement->where, ParseWhere(cursor));
  return {};
}

Outcome<Statement> ParsePin(TokenCursor* cursor) {
  PinCache statement;
  INTARSIA_FAIL_IF(ParsePinned(cursor, &statement));
  const bool has_tier = cursor->AcceptWord("TIER");
  if (has_tier && cursor->AcceptWord("DISK")) {
    statement.tier = CacheTier::kDisk;
  } else if (has_tier && !cursor->AcceptWord("MEMORY")) {
    static constexpr std::array<std::string_view, 2> kTiers = {"MEMORY", "DISK"};
    return cursor->UnexpectedKeyword(kTiers);
  }
  static constexpr std::array<std::string_view, 2> kLast = {"WHERE", "TIER"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseUnpin(TokenCursor* cursor) {
  UnpinCache statement;
  INTARSIA_FAIL_IF(ParsePinned(cursor, &statement));
  static constexpr std::array<std::string_view, 1> kLast = {"WHERE"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

Outcome<Statement> ParseDelete(TokenCursor* cursor) {
  Delete statement;
  INTARSIA_FAIL_IF(cursor->ExpectWord("FROM"));
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, ReadCollection(cursor));
  if (cursor->IsAtEnd()) {
    return cursor->Unexpected("WHERE", {},
                              "DELETE needs a condition; DROP COLLECTION removes everything.");
  }
  INTARSIA_FAIL_IF(cursor->ExpectWord("WHERE"));
  INTARSIA_ASSIGN_OR_FAIL(statement.where, ParsePredicate(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 1> kLast = {"WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return Statement(std::move(statement));
}

struct StatementRow {
  std::string_view word;
  Outcome<Statement> (*parse)(TokenCursor* cursor);
};

constexpr std::array<StatementRow, 22> kStatements = {{
    {"ALTER", ParseAlter},
    {"ANSWER", ParseAnswerStatement},
    {"BACKUP", ParseBackup},
    {"CACHE", ParseCache},
    {"CHECK", ParseCheck},
    {"CLEAR", ParseClear},
    {"COMPACT", ParseCompact},
    {"COPY", ParseCopy},
    {"CREATE", ParseCreate},
    {"DELETE", ParseDelete},
    {"DESCRIBE", ParseDescribe},
    {"DROP", ParseDrop},
    {"EXPLAIN", ParseExplain},
    {"INSERT", ParseInsert},
    {"PIN", ParsePin},
    {"REPAIR", ParseRepair},
    {"RESTORE", ParseRestore},
    {"SEARCH", ParseSearchStatement},
    {"SELECT", ParseSelectStatement},
    {"SET", ParseSet},
    {"SHOW", ParseShow},
    {"UNPIN", ParseUnpin},
}};

}  // namespace

Outcome<Statement> ParseOneStatement(TokenCursor* cursor) {
  std::array<std::string_view, kStatements.size()> words;
  for (size_t i = 0; i < kStatements.size(); ++i) {
    words[i] = kStatements[i].word;
    if (cursor->AcceptWord(words[i])) return kStatements[i].parse(cursor);
  }
  return cursor->Unexpected("a statement (" + JoinAlternatives(words) + ")", words);
}

}  // namespace intarsia::query
