#include "query/lexer.h"

#include <algorithm>
#include <array>

namespace intarsia::query {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsWordStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool IsWordPart(char c) { return IsWordStart(c) || IsDigit(c) || c == '$'; }

bool IsBlank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

char ToLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

constexpr std::array<std::string_view, 34> kReserved = {
    "AND",     "ANSWER", "ASC",  "BETWEEN", "BY",     "CACHE", "CONTAINS", "COPY",   "CREATE",
    "DEFAULT", "DELETE", "DESC", "DROP",    "EXISTS", "FALSE", "FROM",     "IF",     "IN",
    "INSERT",  "INTO",   "IS",   "LIKE",    "LIMIT",  "NOT",   "NULL",     "OFFSET", "OR",
    "ORDER",   "SELECT", "TRUE", "USING",   "VALUES", "WHERE", "WITH"};

}  // namespace

Token Lexer::Next() {
  const int64_t size = static_cast<int64_t>(sql_.size());
  if (!SkipBlanks()) {
    const int64_t comment_begin = offset_;
    offset_ = size;
    return {TokenKind::kUnterminatedComment, {comment_begin, size}};
  }
  const int64_t begin = offset_;
  if (begin >= size) return {TokenKind::kEnd, {size, size}};
  TokenKind kind = TokenKind::kWord;
  const char first = Peek();
  if (first == '\'') {
    kind = ReadQuoted('\'', TokenKind::kString, TokenKind::kUnterminatedString);
  } else if (first == '"') {
    kind = ReadQuoted('"', TokenKind::kQuotedName, TokenKind::kUnterminatedName);
  } else if (IsDigit(first) || (first == '.' && IsDigit(Peek(1)))) {
    kind = ReadNumber();
  } else if (IsWordStart(first)) {
    ReadWord();
  } else {
    kind = ReadOperator();
  }
  return {kind, {begin, offset_}};
}

bool Lexer::SkipBlanks() {
  while (Has(0)) {
    if (IsBlank(Peek())) {
      ++offset_;
    } else if (Peek() == '-' && Peek(1) == '-') {
      const size_t end = sql_.find('\n', static_cast<size_t>(offset_));
      offset_ = static_cast<int64_t>(end == std::string_view::npos ? sql_.size() : end);
    } else if (Peek() == '/' && Peek(1) == '*') {
      const int64_t begin = offset_;
      int64_t depth = 0;
      do {
        const bool opens = Peek() == '/' && Peek(1) == '*';
        const bool closes = Peek() == '*' && Peek(1) == '/';
        if (opens) ++depth;
        if (closes) --depth;
        offset_ += opens || closes ? 2 : 1;
      } while (depth > 0 && Has(0));
      if (depth > 0) {
        offset_ = begin;
        return false;
      }
    } else {
      break;
    }
  }
  return true;
}

TokenKind Lexer::ReadQuoted(char quote, TokenKind complete, TokenKind unterminated) {
  for (++offset_; Has(0); ++offset_) {
    if (Peek() != quote) continue;
    if (Peek(1) != quote) {
      ++offset_;
      return complete;
    }
    ++offset_;
  }
  return unterminated;
}

TokenKind Lexer::ReadNumber() {
  TokenKind kind = TokenKind::kInteger;
  while (IsDigit(Peek())) ++offset_;
  if (Peek() == '.') {
    kind = TokenKind::kDouble;
    ++offset_;
    while (IsDigit(Peek())) ++offset_;
  }
  if (Peek() == 'e' || Peek() == 'E') {
    const int64_t sign = Peek(1) == '+' || Peek(1) == '-' ? 1 : 0;
    if (IsDigit(Peek(1 + sign))) {
      kind = TokenKind::kDouble;
      offset_ += 1 + sign;
      while (IsDigit(Peek())) ++offset_;
    }
  }
  // 12abc is neither a number nor a name, and 1.2.3 is not two numbers.
  if (!IsWordPart(Peek()) && Peek() != '.') return kind;
  while (IsWordPart(Peek()) || Peek() == '.') ++offset_;
  return TokenKind::kBadNumber;
}

TokenKind Lexer::ReadOperator() {
  struct Operator {
    std::string_view text;
    TokenKind kind;
  };
  // Longer ones first where one begins with another.
  static constexpr std::array<Operator, 20> kOperators = {{
      {"=>", TokenKind::kArrow},      {"==", TokenKind::kEqual},
      {"=", TokenKind::kEqual},       {"<>", TokenKind::kNotEqual},
      {"!=", TokenKind::kNotEqual},   {"<=", TokenKind::kLessEqual},
      {"<", TokenKind::kLess},        {">=", TokenKind::kGreaterEqual},
      {">", TokenKind::kGreater},     {",", TokenKind::kComma},
      {"(", TokenKind::kLeftParen},   {")", TokenKind::kRightParen},
      {"[", TokenKind::kLeftBracket}, {"]", TokenKind::kRightBracket},
      {";", TokenKind::kSemicolon},   {".", TokenKind::kDot},
      {"*", TokenKind::kStar},        {"+", TokenKind::kPlus},
      {"-", TokenKind::kMinus},       {"\\G", TokenKind::kVertical},
  }};
  const std::string_view rest = sql_.substr(static_cast<size_t>(offset_));
  for (const Operator& candidate : kOperators) {
    if (rest.starts_with(candidate.text)) {
      offset_ += static_cast<int64_t>(candidate.text.size());
      return candidate.kind;
    }
  }
  ++offset_;
  return TokenKind::kBadCharacter;
}

void Lexer::ReadWord() {
  while (IsWordPart(Peek())) ++offset_;
}

std::string_view TokenText(std::string_view sql, const Token& token) {
  return sql.substr(static_cast<size_t>(token.range.begin),
                    static_cast<size_t>(token.range.end - token.range.begin));
}

std::string DecodeQuoted(std::string_view sql, const Token& token) {
  const std::string_view raw = TokenText(sql, token);
  const char quote = raw.front();
  std::string decoded;
  decoded.reserve(raw.size());
  for (size_t i = 1; i + 1 < raw.size(); ++i) {
    decoded.push_back(raw[i]);
    if (raw[i] == quote) ++i;
  }
  return decoded;
}

bool IsReserved(std::string_view word) {
  return std::any_of(kReserved.begin(), kReserved.end(), [word](std::string_view reserved) {
    return EqualsIgnoringCase(word, reserved);
  });
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return ToLower(x) == ToLower(y); });
}

}  // namespace intarsia::query
