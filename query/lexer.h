// Lexer: SQL text as tokens.
//
// Words are letters, digits, `_` and `$`, not beginning with a digit; every code point above
// U+007F counts as a letter, so that names may be in any script. Keywords are words: the parser
// knows where a word is one. Comments run from `--` to the end of the line or between `/*` and
// `*/`, nested.
//
// Thread safety: owned by one thread.
// Lifetime: the text must outlive the Lexer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "query/diagnostic.h"

namespace intarsia::query {

enum class TokenKind : uint8_t {
  kEnd,
  kWord,
  kQuotedName,  // "name", with "" for a quote
  kString,      // 'text', with '' for a quote
  kInteger,
  kDouble,
  kComma,
  kLeftParen,
  kRightParen,
  kLeftBracket,
  kRightBracket,
  kSemicolon,
  kDot,
  kStar,
  kPlus,
  kMinus,
  kEqual,     // = or ==
  kNotEqual,  // <> or !=
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kArrow,     // =>
  kVertical,  // \G
  kUnterminatedString,
  kUnterminatedName,
  kUnterminatedComment,
  kBadNumber,
  kBadCharacter,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  SourceRange range;  // Of kEnd {n, n}, where n is the size of the text.
};

class Lexer {
 public:
  explicit Lexer(std::string_view sql, int64_t offset = 0) : sql_(sql), offset_(offset) {}

  // The next token; kEnd again and again at the end. After an unterminated token comes kEnd.
  Token Next();

 private:
  bool Has(int64_t ahead) const { return offset_ + ahead < static_cast<int64_t>(sql_.size()); }
  // The byte `ahead` of the offset, NUL behind the end.
  char Peek(int64_t ahead = 0) const {
    return Has(ahead) ? sql_[static_cast<size_t>(offset_ + ahead)] : '\0';
  }
  // Skips blanks and comments; false, at its beginning, if a comment has no end.
  bool SkipBlanks();
  TokenKind ReadQuoted(char quote, TokenKind complete, TokenKind unterminated);
  TokenKind ReadNumber();
  TokenKind ReadOperator();
  void ReadWord();

  std::string_view sql_;
  int64_t offset_ = 0;
};

// The bytes of a token as written.
std::string_view TokenText(std::string_view sql, const Token& token);
// The content of a kString or kQuotedName: without its quotes, doubled quotes as one.
std::string DecodeQuoted(std::string_view sql, const Token& token);

// Whether a word in any case is reserved: it is an identifier only in double quotes.
bool IsReserved(std::string_view word);
// Whether both are equal but for the case of ASCII letters.
bool EqualsIgnoringCase(std::string_view a, std::string_view b);

}  // namespace intarsia::query
