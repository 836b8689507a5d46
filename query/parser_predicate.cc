#include <array>
#include <string>
#include <utility>

#include "query/parser.h"
#include "query/parser_clauses.h"

namespace intarsia::query {
namespace {

std::optional<CompareOp> CompareOpOf(TokenKind kind) {
  switch (kind) {
    case TokenKind::kEqual:
      return CompareOp::kEqual;
    case TokenKind::kNotEqual:
      return CompareOp::kNotEqual;
    case TokenKind::kLess:
      return CompareOp::kLess;
    case TokenKind::kLessEqual:
      return CompareOp::kLessEqual;
    case TokenKind::kGreater:
      return CompareOp::kGreater;
    case TokenKind::kGreaterEqual:
      return CompareOp::kGreaterEqual;
    default:
      return std::nullopt;
  }
}

// The operator that says the same with its sides exchanged.
CompareOp Mirror(CompareOp op) {
  switch (op) {
    case CompareOp::kLess:
      return CompareOp::kGreater;
    case CompareOp::kLessEqual:
      return CompareOp::kGreaterEqual;
    case CompareOp::kGreater:
      return CompareOp::kLess;
    case CompareOp::kGreaterEqual:
      return CompareOp::kLessEqual;
    default:
      return op;
  }
}

Predicate Negate(Predicate predicate) {
  Negation negation;
  negation.term.push_back(std::move(predicate));
  return {std::move(negation)};
}

class PredicateParser {
 public:
  explicit PredicateParser(TokenCursor* cursor) : cursor_(*cursor) {}

  Outcome<Predicate> ParseOr(int64_t depth) { return ParseJunction(Connective::kOr, depth); }

 private:
  Outcome<Predicate> ParseJunction(Connective connective, int64_t depth) {
    const std::string_view word = connective == Connective::kOr ? "OR" : "AND";
    std::vector<Predicate> terms;
    do {
      if (static_cast<int64_t>(terms.size()) == kTermsMax) {
        return ParserError(cursor_.range(), "more than " + std::to_string(kTermsMax) +
                                                " terms joined by " + std::string(word));
      }
      INTARSIA_ASSIGN_OR_FAIL(Predicate term, connective == Connective::kOr
                                                  ? ParseJunction(Connective::kAnd, depth)
                                                  : ParseNot(depth));
      terms.push_back(std::move(term));
    } while (cursor_.AcceptWord(word));
    if (terms.size() == 1) return std::move(terms.front());
    return Predicate{Junction{connective, std::move(terms)}};
  }

  Outcome<Predicate> ParseNot(int64_t depth) {
    if (depth >= kDepthMax) {
      return ParserError(cursor_.range(),
                         "condition nests more than " + std::to_string(kDepthMax) + " deep");
    }
    if (cursor_.AcceptWord("NOT")) {
      INTARSIA_ASSIGN_OR_FAIL(Predicate term, ParseNot(depth + 1));
      return Negate(std::move(term));
    }
    if (cursor_.Accept(TokenKind::kLeftParen)) {
      INTARSIA_ASSIGN_OR_FAIL(Predicate term, ParseOr(depth + 1));
      if (!cursor_.Accept(TokenKind::kRightParen)) return cursor_.Unexpected("AND, OR or \")\"");
      return term;
    }
    return ParseTest();
  }

  bool IsAtConstant() const {
    switch (cursor_.current().kind) {
      case TokenKind::kString:
      case TokenKind::kInteger:
      case TokenKind::kDouble:
      case TokenKind::kMinus:
      case TokenKind::kPlus:
        return true;
      default:
        return cursor_.IsWord("TRUE") || cursor_.IsWord("FALSE") || cursor_.IsWord("NULL");
    }
  }

  // `column <test>` or `constant <compare> column`.
  Outcome<Predicate> ParseTest() {
    if (IsAtConstant()) return ParseMirrored();
    INTARSIA_ASSIGN_OR_FAIL(Name column, cursor_.ReadName("a column name"));
    if (const auto op = CompareOpOf(cursor_.current().kind)) {
      Comparison comparison{std::move(column), *op, {}, cursor_.range()};
      cursor_.Advance();
      INTARSIA_ASSIGN_OR_FAIL(comparison.value, ParseLiteral(&cursor_, "a value"));
      return Predicate{std::move(comparison)};
    }
    if (cursor_.AcceptWord("IS")) return ParseIs(std::move(column));
    const bool is_negated = cursor_.AcceptWord("NOT");
    if (cursor_.AcceptWord("IN")) return ParseIn(std::move(column), is_negated);
    if (cursor_.AcceptWord("BETWEEN")) return ParseBetween(column, is_negated);
    if (cursor_.AcceptWord("LIKE")) {
      LikePattern like{std::move(column), is_negated, {}};
      INTARSIA_ASSIGN_OR_FAIL(like.pattern, ParseLiteral(&cursor_, "a pattern in single quotes"));
      return Predicate{std::move(like)};
    }
    if (cursor_.AcceptWord("CONTAINS")) {
      Containment contains{std::move(column), is_negated, {}};
      INTARSIA_ASSIGN_OR_FAIL(contains.value, ParseLiteral(&cursor_, "a value"));
      return Predicate{std::move(contains)};
    }
    static constexpr std::array<std::string_view, 6> kTests = {"IN",       "LIKE", "BETWEEN",
                                                               "CONTAINS", "IS",   "NOT"};
    if (is_negated) return cursor_.Unexpected("IN, LIKE, BETWEEN or CONTAINS", kTests);
    return cursor_.Unexpected(
        "a comparison (=, !=, <, <=, >, >=, IN, LIKE, BETWEEN, CONTAINS or IS)", kTests);
  }

  Outcome<Predicate> ParseMirrored() {
    Comparison comparison;
    INTARSIA_ASSIGN_OR_FAIL(comparison.value, ParseLiteral(&cursor_, "a value"));
    const auto op = CompareOpOf(cursor_.current().kind);
    if (!op) return cursor_.Unexpected("a comparison (=, !=, <, <=, > or >=)");
    comparison.op = Mirror(*op);
    comparison.op_range = cursor_.range();
    cursor_.Advance();
    INTARSIA_ASSIGN_OR_FAIL(comparison.column, cursor_.ReadName("a column name"));
    return Predicate{std::move(comparison)};
  }

  Outcome<Predicate> ParseIs(Name column) {
    const bool is_negated = cursor_.AcceptWord("NOT");
    if (cursor_.AcceptWord("NULL")) return Predicate{NullTest{std::move(column), is_negated}};
    if (cursor_.AcceptWord("EMPTY")) return Predicate{EmptyTest{std::move(column), is_negated}};
    static constexpr std::array<std::string_view, 3> kWords = {"NULL", "EMPTY", "NOT"};
    return cursor_.UnexpectedKeyword({kWords.data(), is_negated ? size_t{2} : size_t{3}});
  }

  Outcome<Predicate> ParseIn(Name column, bool is_negated) {
    InList list{std::move(column), is_negated, {}};
    INTARSIA_FAIL_IF(cursor_.Expect(TokenKind::kLeftParen, "("));
    do {
      if (static_cast<int64_t>(list.values.size()) == kTermsMax) {
        return ParserError(cursor_.range(),
                           "more than " + std::to_string(kTermsMax) + " values in one IN list");
      }
      INTARSIA_ASSIGN_OR_FAIL(Literal value, ParseLiteral(&cursor_, "a value"));
      list.values.push_back(std::move(value));
    } while (cursor_.Accept(TokenKind::kComma));
    if (!cursor_.Accept(TokenKind::kRightParen)) return cursor_.Unexpected("\",\" or \")\"");
    return Predicate{std::move(list)};
  }

  // x BETWEEN a AND b says x >= a AND x <= b, and is kept as that.
  Outcome<Predicate> ParseBetween(const Name& column, bool is_negated) {
    const SourceRange place = cursor_.range();
    Comparison low{column, CompareOp::kGreaterEqual, {}, place};
    Comparison high{column, CompareOp::kLessEqual, {}, place};
    INTARSIA_ASSIGN_OR_FAIL(low.value, ParseLiteral(&cursor_, "a value"));
    INTARSIA_FAIL_IF(cursor_.ExpectWord("AND"));
    INTARSIA_ASSIGN_OR_FAIL(high.value, ParseLiteral(&cursor_, "a value"));
    Junction both;
    both.terms.push_back({std::move(low)});
    both.terms.push_back({std::move(high)});
    Predicate predicate{std::move(both)};
    return is_negated ? Negate(std::move(predicate)) : std::move(predicate);
  }

  TokenCursor& cursor_;
};

}  // namespace

Outcome<Predicate> ParsePredicate(TokenCursor* cursor) {
  return PredicateParser(cursor).ParseOr(/*depth=*/0);
}

}  // namespace intarsia::query
