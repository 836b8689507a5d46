// TokenCursor: the parser's place in the tokens of a script, and the errors that belong to it.
//
// Looks one token beyond the current one. Errors say what was expected and what was found, and name
// the keyword that was probably meant.
//
// Thread safety: owned by one thread.
// Lifetime: the text must outlive the cursor.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/lexer.h"

namespace intarsia::query {

class TokenCursor {
 public:
  explicit TokenCursor(std::string_view sql);

  const Token& current() const { return current_; }
  const Token& next() const { return next_; }
  void Advance();

  bool Is(TokenKind kind) const { return current_.kind == kind; }
  // An unquoted word, in any case.
  bool IsWord(std::string_view word) const { return IsWord(current_, word); }
  // Whether a statement ends here: a semicolon or the end of the text.
  bool IsAtEnd() const { return Is(TokenKind::kEnd) || Is(TokenKind::kSemicolon); }

  // Step over the token if it is the one asked for, and say whether it was.
  bool Accept(TokenKind kind);
  bool AcceptWord(std::string_view word);

  // Step over the token or fail. `expected` is for the message, for example "(".
  Failure Expect(TokenKind kind, std::string_view expected);
  Failure ExpectWord(std::string_view word);

  // `what` is for the message, for example "a collection name".
  Outcome<Name> ReadName(std::string_view what);
  // A name where no keyword can stand, so that reserved words need no quotes: `order = 'score'`.
  Outcome<Name> ReadOptionName(std::string_view what);
  Outcome<Text> ReadText(std::string_view what);
  // A text that is not empty.
  Outcome<Text> ReadPath(std::string_view what);

  // "expected <expected>, found <current token>". Words among `keywords` that look like the token
  // become the hint, unless there is a `hint`.
  Diagnostic Unexpected(std::string_view expected, std::span<const std::string_view> keywords = {},
                        std::string hint = {}) const;
  // The same with the keywords as what was expected.
  Diagnostic UnexpectedKeyword(std::span<const std::string_view> keywords) const;

  // The current token as written.
  std::string_view text() const { return TokenText(sql_, current_); }
  std::string DecodeCurrent() const { return DecodeQuoted(sql_, current_); }
  // The end of the token before the current one.
  int64_t previous_end() const { return previous_end_; }
  // The current token's place; at the end of the text, right behind the last token.
  SourceRange range() const;

 private:
  bool IsWord(const Token& token, std::string_view word) const {
    return token.kind == TokenKind::kWord && EqualsIgnoringCase(TokenText(sql_, token), word);
  }

  std::string_view sql_;
  Lexer lexer_;
  Token current_;
  Token next_;
  int64_t previous_end_ = 0;
};

}  // namespace intarsia::query
