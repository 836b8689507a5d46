#include "query/parser.h"

#include <array>
#include <string>
#include <utility>

#include "base/utf8.h"
#include "query/lexer.h"
#include "query/parser_statements.h"
#include "query/token_cursor.h"

namespace intarsia::query {
namespace {

// What no statement may contain, wherever it stands.
Failure CheckText(std::string_view sql) {
  if (static_cast<int64_t>(sql.size()) > kScriptBytesMax) {
    return ParserError({0, 0},
                       "the text is larger than " + std::to_string(kScriptBytesMax >> 20) + " MiB");
  }
  if (const int64_t offset = FindInvalidUtf8(sql); offset >= 0) {
    return ParserError({offset, offset + 1},
                       "the text is not UTF-8: byte=" + std::to_string(offset));
  }
  if (const size_t offset = sql.find('\0'); offset != std::string_view::npos) {
    const auto begin = static_cast<int64_t>(offset);
    return ParserError({begin, begin + 1}, "the text holds a NUL character");
  }
  return {};
}

Outcome<std::vector<ParsedStatement>> ParseAll(std::string_view sql) {
  std::vector<ParsedStatement> statements;
  INTARSIA_FAIL_IF(CheckText(sql));
  TokenCursor cursor(sql);
  while (true) {
    while (cursor.Accept(TokenKind::kSemicolon)) continue;
    if (cursor.Is(TokenKind::kEnd)) return statements;
    const int64_t begin = cursor.current().range.begin;
    INTARSIA_ASSIGN_OR_FAIL(Statement statement, ParseOneStatement(&cursor));
    statements.push_back({std::move(statement), {begin, cursor.previous_end()}});
  }
}

}  // namespace

Outcome<std::vector<ParsedStatement>> ParseScript(std::string_view sql) {
  auto statements = ParseAll(sql);
  if (!statements.ok()) Locate(sql, &statements.diagnostic());
  return statements;
}

Outcome<Statement> ParseStatement(std::string_view sql) {
  INTARSIA_ASSIGN_OR_FAIL(std::vector<ParsedStatement> statements, ParseScript(sql));
  if (statements.size() == 1) return std::move(statements.front().statement);
  Diagnostic diagnostic =
      statements.empty()
          ? ParserError({0, 0}, "expected a statement, found nothing")
          : ParserError(statements[1].range, "expected one statement, found another behind it",
                        "Send one at a time.");
  Locate(sql, &diagnostic);
  return diagnostic;
}

std::optional<ScriptPiece> NextPiece(std::string_view sql, int64_t offset) {
  Lexer lexer(sql, offset);
  ScriptPiece piece;
  for (Token token = lexer.Next(); token.kind != TokenKind::kEnd; token = lexer.Next()) {
    const bool is_vertical = token.kind == TokenKind::kVertical;
    if (token.kind != TokenKind::kSemicolon && !is_vertical) {
      if (piece.range.begin < 0) piece.range.begin = token.range.begin;
      piece.range.end = token.range.end;
    } else if (piece.range.begin >= 0) {
      piece.terminator = is_vertical ? Terminator::kVertical : Terminator::kSemicolon;
      piece.next = token.range.end;
      return piece;
    }
  }
  return std::nullopt;
}

}  // namespace intarsia::query
