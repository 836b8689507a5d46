#include "query/parser_search.h"

#include <array>
#include <string>
#include <utility>

#include "query/parser.h"
#include "query/parser_clauses.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

constexpr std::array<std::string_view, 5> kScoreFunctions = {"SCORE", "TEXT_SCORE", "VECTOR_SCORE",
                                                             "RERANK_SCORE", "SNIPPET"};

// The parentheses of a function behind its name.
Outcome<SelectItem> ParseFunction(TokenCursor* cursor) {
  SelectItem item = {SelectItem::Kind::kFunction, {}};
  item.column.range = cursor->range();
  for (const std::string_view function : kScoreFunctions) {
    if (cursor->IsWord(function)) item.column.text = function;
  }
  if (item.column.text.empty()) {
    return cursor->Unexpected(
        "a column, * or one of COUNT(*), SCORE(), TEXT_SCORE(), "
        "VECTOR_SCORE(), RERANK_SCORE() and SNIPPET(content)",
        kScoreFunctions);
  }
  cursor->Advance();
  cursor->Advance();
  if (item.column.text == "SNIPPET") INTARSIA_FAIL_IF(cursor->ExpectWord("content"));
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kRightParen, ")"));
  return item;
}

Outcome<SelectItem> ParseSelectItem(TokenCursor* cursor) {
  if (cursor->Accept(TokenKind::kStar)) return SelectItem{SelectItem::Kind::kStar, {}};
  if (cursor->Is(TokenKind::kWord) && cursor->next().kind == TokenKind::kLeftParen) {
    if (!cursor->IsWord("COUNT")) return ParseFunction(cursor);
    SelectItem count{SelectItem::Kind::kCount, {.text = "", .range = cursor->range()}};
    cursor->Advance();
    cursor->Advance();
    INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kStar, "*"));
    INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kRightParen, ")"));
    return count;
  }
  INTARSIA_ASSIGN_OR_FAIL(Name column, cursor->ReadName("a column, * or COUNT(*)"));
  return SelectItem{SelectItem::Kind::kColumn, std::move(column)};
}

Outcome<std::vector<OrderTerm>> ParseOrderBy(TokenCursor* cursor) {
  std::vector<OrderTerm> terms;
  if (!cursor->AcceptWord("ORDER")) return terms;
  INTARSIA_FAIL_IF(cursor->ExpectWord("BY"));
  do {
    if (static_cast<int64_t>(terms.size()) == kOptionsMax) {
      return ParserError(cursor->range(),
                         "more than " + std::to_string(kOptionsMax) + " columns in ORDER BY");
    }
    OrderTerm term;
    INTARSIA_ASSIGN_OR_FAIL(term.column, cursor->ReadName("a column name"));
    term.is_descending = cursor->AcceptWord("DESC");
    if (!term.is_descending) cursor->AcceptWord("ASC");
    terms.push_back(std::move(term));
  } while (cursor->Accept(TokenKind::kComma));
  return terms;
}

// `name => value`, once or, separated by commas, several times, up to the closing parenthesis.
Outcome<std::vector<Argument>> ParseArguments(TokenCursor* cursor) {
  std::vector<Argument> arguments;
  do {
    if (static_cast<int64_t>(arguments.size()) == kOptionsMax) {
      return ParserError(cursor->range(),
                         "more than " + std::to_string(kOptionsMax) + " arguments");
    }
    Argument argument;
    INTARSIA_ASSIGN_OR_FAIL(argument.name, cursor->ReadOptionName("the name of an argument"));
    if (!cursor->Accept(TokenKind::kArrow)) {
      return cursor->Unexpected(
          "\"=>\"", {},
          cursor->Is(TokenKind::kEqual) ? "Arguments of clauses are written name => value." : "");
    }
    INTARSIA_ASSIGN_OR_FAIL(argument.value, ParseLiteral(cursor, "a value"));
    arguments.push_back(std::move(argument));
  } while (cursor->Accept(TokenKind::kComma));
  if (!cursor->Accept(TokenKind::kRightParen)) return cursor->Unexpected("\",\" or \")\"");
  return arguments;
}

// `(column, 'text' [, name => value, ...])` behind MATCH TEXT or MATCH VECTOR.
Outcome<MatchClause> ParseMatch(TokenCursor* cursor) {
  MatchClause match;
  match.range = cursor->range();
  const bool is_text = cursor->AcceptWord("TEXT");
  static constexpr std::array<std::string_view, 2> kKinds = {"TEXT", "VECTOR"};
  if (!is_text && !cursor->AcceptWord("VECTOR")) return cursor->UnexpectedKeyword(kKinds);
  match.kind = is_text ? MatchClause::Kind::kText : MatchClause::Kind::kVector;
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kLeftParen, "("));
  const std::string_view column = is_text ? "content" : "embedding";
  if (!cursor->AcceptWord(column)) {
    return cursor->Unexpected(std::string(column), {},
                              is_text ? "Words are looked for in the column content."
                                      : "Vectors are those of embedding.");
  }
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kComma, ","));
  const bool is_call = !is_text && cursor->AcceptWord("EMBED");
  if (is_call) INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kLeftParen, "("));
  INTARSIA_ASSIGN_OR_FAIL(match.text, cursor->ReadText("the text to search in single quotes"));
  if (is_call) INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kRightParen, ")"));
  if (cursor->Accept(TokenKind::kRightParen)) return match;
  if (!cursor->Accept(TokenKind::kComma)) return cursor->Unexpected("\",\" or \")\"");
  INTARSIA_ASSIGN_OR_FAIL(match.arguments, ParseArguments(cursor));
  return match;
}

// Behind SEARCH.
Outcome<SearchClause> ParseSearchClause(TokenCursor* cursor) {
  SearchClause search;
  static constexpr std::array<std::string_view, 2> kNext = {"MATCH", "FUSION"};
  do {
    if (cursor->AcceptWord("MATCH")) {
      INTARSIA_ASSIGN_OR_FAIL(MatchClause match, ParseMatch(cursor));
      for (const MatchClause& other : search.matches) {
        if (other.kind != match.kind) continue;
        return ParserError(match.range, "each of MATCH TEXT and MATCH VECTOR stands once");
      }
      search.matches.push_back(std::move(match));
    } else if (!search.matches.empty() && cursor->AcceptWord("FUSION")) {
      FusionClause fusion;
      INTARSIA_ASSIGN_OR_FAIL(fusion.method,
                              cursor->ReadName("how to join rankings (rrf, relative, linear)"));
      if (cursor->Accept(TokenKind::kLeftParen)) {
        INTARSIA_ASSIGN_OR_FAIL(fusion.arguments, ParseArguments(cursor));
      }
      search.fusion = std::move(fusion);
      return search;
    } else {
      return cursor->UnexpectedKeyword({kNext.data(), search.matches.empty() ? 1U : 2U});
    }
  } while (cursor->Accept(TokenKind::kComma));
  return search;
}

// `[RERANK ['text' ON content] USING model [TOP n]]`
Outcome<std::optional<RerankClause>> ParseRerank(TokenCursor* cursor) {
  if (!cursor->AcceptWord("RERANK")) return std::optional<RerankClause>();
  RerankClause rerank;
  if (cursor->Is(TokenKind::kString)) {
    INTARSIA_ASSIGN_OR_FAIL(Text text, cursor->ReadText("the question"));
    rerank.text = std::move(text);
    INTARSIA_FAIL_IF(cursor->ExpectWord("ON"));
    INTARSIA_FAIL_IF(cursor->ExpectWord("content"));
  }
  INTARSIA_FAIL_IF(cursor->ExpectWord("USING"));
  INTARSIA_ASSIGN_OR_FAIL(rerank.model, cursor->ReadName("a model name"));
  INTARSIA_ASSIGN_OR_FAIL(rerank.top, ParseCount(cursor, "TOP"));
  return std::optional<RerankClause>(std::move(rerank));
}

}  // namespace

Outcome<Search> ParseSearch(TokenCursor* cursor) {
  Search statement;
  INTARSIA_ASSIGN_OR_FAIL(statement.text, cursor->ReadText("the text to search in single quotes"));
  if (!cursor->AcceptWord("IN")) {
    static constexpr std::array<std::string_view, 1> kNext = {"IN"};
    return cursor->Unexpected(
        "IN", kNext,
        cursor->IsWord("FROM") ? "SEARCH 'text' IN collection; ANSWER takes FROM." : "");
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, cursor->ReadName("a collection name"));
  INTARSIA_ASSIGN_OR_FAIL(statement.where, ParseWhere(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.limit, ParseCount(cursor, "LIMIT"));
  INTARSIA_ASSIGN_OR_FAIL(statement.options, ParseWith(cursor));
  static constexpr std::array<std::string_view, 3> kLast = {"WHERE", "LIMIT", "WITH"};
  INTARSIA_FAIL_IF(ExpectEnd(*cursor, kLast));
  return statement;
}

Outcome<Select> ParseSelect(TokenCursor* cursor) {
  Select statement;
  do {
    if (static_cast<int64_t>(statement.items.size()) == kOptionsMax) {
      return ParserError(cursor->range(), "more than " + std::to_string(kOptionsMax) + " columns");
    }
    INTARSIA_ASSIGN_OR_FAIL(SelectItem item, ParseSelectItem(cursor));
    statement.items.push_back(std::move(item));
  } while (cursor->Accept(TokenKind::kComma));
  INTARSIA_FAIL_IF(cursor->ExpectWord("FROM"));
  INTARSIA_ASSIGN_OR_FAIL(statement.collection, cursor->ReadName("a collection name"));
  if (cursor->AcceptWord("SEARCH")) {
    INTARSIA_ASSIGN_OR_FAIL(SearchClause search, ParseSearchClause(cursor));
    statement.search = std::move(search);
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.where, ParseWhere(cursor));
  if (statement.search.has_value()) {
    INTARSIA_ASSIGN_OR_FAIL(statement.rerank, ParseRerank(cursor));
  }
  INTARSIA_ASSIGN_OR_FAIL(statement.order_by, ParseOrderBy(cursor));
  INTARSIA_ASSIGN_OR_FAIL(statement.limit, ParseCount(cursor, "LIMIT"));
  INTARSIA_ASSIGN_OR_FAIL(statement.offset, ParseCount(cursor, "OFFSET"));
  static constexpr std::array<std::string_view, 5> kSearched = {"SEARCH", "WHERE", "RERANK",
                                                                "LIMIT", "OFFSET"};
  static constexpr std::array<std::string_view, 4> kPlain = {"WHERE", "ORDER BY", "LIMIT",
                                                             "OFFSET"};
  if (statement.search.has_value()) {
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, kSearched));
  } else {
    INTARSIA_FAIL_IF(ExpectEnd(*cursor, kPlain));
  }
  return statement;
}

}  // namespace intarsia::query
