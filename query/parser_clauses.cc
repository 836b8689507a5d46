#include "query/parser_clauses.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "query/parser.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

Outcome<Value> ParseNumber(TokenCursor* cursor, std::string_view sign) {
  const std::string digits = std::string(sign) + std::string(cursor->text());
  const char* const begin = digits.data();
  const char* const end = begin + digits.size();
  if (cursor->Is(TokenKind::kInteger)) {
    int64_t value = 0;
    const auto result = std::from_chars(begin, end, value);
    if (result.ec != std::errc() || result.ptr != end) {
      return ParserError(cursor->range(), "integer does not fit 64 bits");
    }
    cursor->Advance();
    return Value(value);
  }
  double value = 0;
  const auto result = std::from_chars(begin, end, value);
  if (result.ec != std::errc() || result.ptr != end || !std::isfinite(value)) {
    return ParserError(cursor->range(), "number does not fit a DOUBLE");
  }
  cursor->Advance();
  return Value(value);
}

Outcome<Value> ParseTimestampValue(TokenCursor* cursor) {
  INTARSIA_ASSIGN_OR_FAIL(const Text text, cursor->ReadText("a timestamp in quotes"));
  const Result<Timestamp> timestamp = ParseTimestamp(text.text);
  if (!timestamp.ok()) return ParserError(text.range, std::string(timestamp.status().message()));
  return Value(*timestamp);
}

// One constant, no list.
Outcome<Value> ParseScalar(TokenCursor* cursor, std::string_view what) {
  if (cursor->Is(TokenKind::kString)) {
    Value value(cursor->DecodeCurrent());
    cursor->Advance();
    return value;
  }
  if (cursor->Is(TokenKind::kInteger) || cursor->Is(TokenKind::kDouble)) {
    return ParseNumber(cursor, "");
  }
  if (cursor->Is(TokenKind::kMinus) || cursor->Is(TokenKind::kPlus)) {
    const std::string_view sign = cursor->Is(TokenKind::kMinus) ? "-" : "";
    cursor->Advance();
    if (!cursor->Is(TokenKind::kInteger) && !cursor->Is(TokenKind::kDouble)) {
      return cursor->Unexpected("a number");
    }
    return ParseNumber(cursor, sign);
  }
  if (cursor->AcceptWord("TRUE")) return Value(true);
  if (cursor->AcceptWord("FALSE")) return Value(false);
  if (cursor->AcceptWord("NULL")) return Value();
  if (cursor->IsWord("TIMESTAMP") && cursor->next().kind == TokenKind::kString) {
    cursor->Advance();
    return ParseTimestampValue(cursor);
  }
  const bool is_word = cursor->Is(TokenKind::kWord) || cursor->Is(TokenKind::kQuotedName);
  return cursor->Unexpected(what, {}, is_word ? "Strings stand in single quotes: 'text'." : "");
}

// The members of `[...]`, behind the bracket.
Outcome<Value> ParseListRest(TokenCursor* cursor) {
  Value::List members;
  while (!cursor->Is(TokenKind::kRightBracket)) {
    if (!members.empty()) INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kComma, ","));
    if (static_cast<int64_t>(members.size()) == kTermsMax) {
      return ParserError(cursor->range(),
                         "more than " + std::to_string(kTermsMax) + " members in one list");
    }
    INTARSIA_ASSIGN_OR_FAIL(Value member, ParseScalar(cursor, "a value"));
    members.push_back(std::move(member));
  }
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kRightBracket, "]"));
  return Value(std::move(members));
}

struct TypeName {
  std::string_view name;
  BaseType type;
};
// The first five are the names that messages offer; the others are what people write elsewhere.
constexpr std::array<TypeName, 13> kTypeNames = {{
    {"VARCHAR", BaseType::kVarchar},
    {"INT", BaseType::kInt},
    {"DOUBLE", BaseType::kDouble},
    {"BOOLEAN", BaseType::kBoolean},
    {"TIMESTAMP", BaseType::kTimestamp},
    {"TEXT", BaseType::kVarchar},
    {"STRING", BaseType::kVarchar},
    {"INTEGER", BaseType::kInt},
    {"BIGINT", BaseType::kInt},
    {"FLOAT", BaseType::kDouble},
    {"REAL", BaseType::kDouble},
    {"BOOL", BaseType::kBoolean},
    {"DATETIME", BaseType::kTimestamp},
}};

}  // namespace

Outcome<Literal> ParseLiteral(TokenCursor* cursor, std::string_view what) {
  Literal literal;
  literal.range = cursor->range();
  if (cursor->Accept(TokenKind::kLeftBracket)) {
    INTARSIA_ASSIGN_OR_FAIL(literal.value, ParseListRest(cursor));
  } else {
    INTARSIA_ASSIGN_OR_FAIL(literal.value, ParseScalar(cursor, what));
  }
  literal.range.end = cursor->previous_end();
  return literal;
}

Outcome<Literal> ParseOptionValue(TokenCursor* cursor) {
  const bool is_constant =
      cursor->IsWord("TRUE") || cursor->IsWord("FALSE") || cursor->IsWord("NULL") ||
      (cursor->IsWord("TIMESTAMP") && cursor->next().kind == TokenKind::kString);
  Literal word{Value(), /*is_word=*/true, cursor->range()};
  if (cursor->Is(TokenKind::kQuotedName)) {
    word.value = Value(cursor->DecodeCurrent());
  } else if (cursor->Is(TokenKind::kWord) && !is_constant) {
    word.value = Value(cursor->text());  // Keywords too: preset = default.
  } else {
    return ParseLiteral(cursor, "a value");
  }
  cursor->Advance();
  return word;
}

Outcome<std::vector<Option>> ParseOptionList(TokenCursor* cursor, std::string_view keyword) {
  std::vector<Option> options;
  INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kLeftParen, "("));
  do {
    if (static_cast<int64_t>(options.size()) == kOptionsMax) {
      return ParserError(cursor->range(), "more than " + std::to_string(kOptionsMax) +
                                              " entries in " + std::string(keyword));
    }
    Option option;
    INTARSIA_ASSIGN_OR_FAIL(
        option.name,
        cursor->ReadOptionName(keyword == "WITH" ? "an option name" : "a column name"));
    if (cursor->Is(TokenKind::kArrow)) {
      return cursor->Unexpected("\"=\"", {},
                                "In " + std::string(keyword) +
                                    " a value follows \"=\": " + option.name.text + " = value.");
    }
    INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kEqual, "="));
    INTARSIA_ASSIGN_OR_FAIL(option.value, ParseOptionValue(cursor));
    options.push_back(std::move(option));
  } while (cursor->Accept(TokenKind::kComma));
  if (!cursor->Accept(TokenKind::kRightParen)) return cursor->Unexpected("\",\" or \")\"");
  return options;
}

Outcome<std::vector<Option>> ParseWith(TokenCursor* cursor) {
  if (!cursor->AcceptWord("WITH")) return std::vector<Option>{};
  return ParseOptionList(cursor, "WITH");
}

Outcome<std::optional<Predicate>> ParseWhere(TokenCursor* cursor) {
  if (!cursor->AcceptWord("WHERE")) return std::optional<Predicate>();
  INTARSIA_ASSIGN_OR_FAIL(Predicate predicate, ParsePredicate(cursor));
  return std::optional<Predicate>(std::move(predicate));
}

Outcome<std::optional<int64_t>> ParseCount(TokenCursor* cursor, std::string_view keyword) {
  if (!cursor->AcceptWord(keyword)) return std::optional<int64_t>();
  if (!cursor->Is(TokenKind::kInteger)) {
    return cursor->Unexpected("a number of rows (0 or more)");
  }
  INTARSIA_ASSIGN_OR_FAIL(const Value count, ParseNumber(cursor, ""));
  return std::optional<int64_t>(count.AsInteger());
}

Outcome<ColumnType> ParseColumnType(TokenCursor* cursor) {
  std::array<std::string_view, kTypeNames.size()> names;
  for (size_t i = 0; i < names.size(); ++i) {
    names[i] = kTypeNames[i].name;
    if (!cursor->AcceptWord(names[i])) continue;
    ColumnType type{kTypeNames[i].type, /*is_array=*/false};
    // VARCHAR(40) is common elsewhere; a length would promise a check that nobody makes.
    if (cursor->Is(TokenKind::kLeftParen)) {
      return cursor->Unexpected("\",\" or \")\"", {}, "Types have no length here.");
    }
    if (cursor->Accept(TokenKind::kLeftBracket)) {
      INTARSIA_FAIL_IF(cursor->Expect(TokenKind::kRightBracket, "]"));
      type.is_array = true;
    }
    return type;
  }
  return cursor->Unexpected("a type (VARCHAR, INT, DOUBLE, BOOLEAN, TIMESTAMP, or one with [])",
                            names);
}

Failure ExpectEnd(const TokenCursor& cursor, std::span<const std::string_view> clauses) {
  if (cursor.IsAtEnd()) return {};
  std::string expected;
  for (const std::string_view clause : clauses) expected += std::string(clause) + ", ";
  if (!clauses.empty()) expected.replace(expected.size() - 2, 2, " or ");
  std::string hint;
  for (const std::string_view clause : clauses) {
    if (cursor.IsWord(clause)) hint = "Clauses have a fixed order, and each stands once.";
  }
  return cursor.Unexpected(expected + "the end of the statement", clauses, std::move(hint));
}

Outcome<Name> ParseDottedName(TokenCursor* cursor, std::string_view what) {
  INTARSIA_ASSIGN_OR_FAIL(Name name, cursor->ReadName(what));
  while (cursor->Accept(TokenKind::kDot)) {
    INTARSIA_ASSIGN_OR_FAIL(const Name part, cursor->ReadOptionName(what));
    name.text += "." + part.text;
    name.range.end = part.range.end;
  }
  return name;
}

}  // namespace intarsia::query
