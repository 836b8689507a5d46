#include "query/token_cursor.h"

#include <utility>

#include "base/utf8.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

constexpr int64_t kShownMax = 40;
constexpr std::string_view kStringsHint = "Strings stand in single quotes: 'text'.";

// At most kShownMax code points of a token, for a message.
std::string Shorten(std::string_view text) {
  int64_t offset = 0;
  for (int64_t count = 0; offset < static_cast<int64_t>(text.size()); ++count) {
    if (count == kShownMax) return std::string(text.substr(0, static_cast<size_t>(offset))) + "...";
    offset += DecodeCodePoint(text, offset).num_bytes;
  }
  return std::string(text);
}

// Quotation marks that word processors put in place of ' and ".
bool StartsWithTypographicQuote(std::string_view text) {
  for (const std::string_view quote : {"‘", "’", "“", "”", "„", "«"}) {
    if (text.starts_with(quote)) return true;
  }
  return false;
}

// A message for a token that is wrong by itself, or empty.
std::string_view LexicalProblem(TokenKind kind) {
  switch (kind) {
    case TokenKind::kUnterminatedString:
      return "string without its closing quote (')";
    case TokenKind::kUnterminatedName:
      return "quoted name without its closing quote (\")";
    case TokenKind::kUnterminatedComment:
      return "comment without its closing */";
    default:
      return {};
  }
}

}  // namespace

TokenCursor::TokenCursor(std::string_view sql) : sql_(sql), lexer_(sql) {
  current_ = lexer_.Next();
  next_ = lexer_.Next();
}

void TokenCursor::Advance() {
  previous_end_ = current_.range.end;
  current_ = next_;
  next_ = lexer_.Next();
}

bool TokenCursor::Accept(TokenKind kind) {
  if (!Is(kind)) return false;
  Advance();
  return true;
}

bool TokenCursor::AcceptWord(std::string_view word) {
  if (!IsWord(word)) return false;
  Advance();
  return true;
}

Failure TokenCursor::Expect(TokenKind kind, std::string_view expected) {
  if (Accept(kind)) return {};
  return Unexpected("\"" + std::string(expected) + "\"");
}

Failure TokenCursor::ExpectWord(std::string_view word) {
  if (AcceptWord(word)) return {};
  return UnexpectedKeyword({&word, 1});
}

Outcome<Name> TokenCursor::ReadName(std::string_view what) {
  if (Is(TokenKind::kWord) && IsReserved(text())) {
    return Unexpected(
        what, {},
        "\"" + std::string(text()) + "\" is a keyword; as a name it stands in double quotes.");
  }
  return ReadOptionName(what);
}

Outcome<Name> TokenCursor::ReadOptionName(std::string_view what) {
  Name name;
  name.range = current_.range;
  if (Is(TokenKind::kQuotedName)) {
    name.text = DecodeCurrent();
    if (name.text.empty()) return ParserError(range(), "a quoted name may not be empty");
  } else if (Is(TokenKind::kWord)) {
    name.text = text();
  } else {
    return Unexpected(what, {},
                      Is(TokenKind::kString) ? "Names stand bare or in double quotes." : "");
  }
  Advance();
  return name;
}

Outcome<Text> TokenCursor::ReadText(std::string_view what) {
  if (!Is(TokenKind::kString)) {
    const bool looks_quoted = Is(TokenKind::kQuotedName) || Is(TokenKind::kWord);
    return Unexpected(what, {}, looks_quoted ? std::string(kStringsHint) : "");
  }
  Text result{DecodeCurrent(), current_.range};
  Advance();
  return result;
}

Outcome<Text> TokenCursor::ReadPath(std::string_view what) {
  INTARSIA_ASSIGN_OR_FAIL(Text path, ReadText(what));
  if (path.text.empty()) return ParserError(path.range, "a path may not be empty");
  return path;
}

SourceRange TokenCursor::range() const {
  if (!Is(TokenKind::kEnd)) return current_.range;
  return {previous_end_, previous_end_};
}

Diagnostic TokenCursor::Unexpected(std::string_view expected,
                                   std::span<const std::string_view> keywords,
                                   std::string hint) const {
  if (const std::string_view problem = LexicalProblem(current_.kind); !problem.empty()) {
    return ParserError(range(), std::string(problem));
  }
  const std::string found = Is(TokenKind::kEnd) ? "the end" : "\"" + Shorten(text()) + "\"";
  if (Is(TokenKind::kBadNumber)) {
    return ParserError(range(), "not a number: " + found,
                       "A name that begins with a digit stands in double quotes.");
  }
  if (Is(TokenKind::kBadCharacter)) {
    return ParserError(range(), "unexpected character: " + found);
  }
  if (Is(TokenKind::kWord) && StartsWithTypographicQuote(text())) hint = kStringsHint;
  if (hint.empty() && Is(TokenKind::kWord)) hint = DidYouMean(NearestName(text(), keywords));
  return ParserError(range(), "expected " + std::string(expected) + ", found " + found,
                     std::move(hint));
}

Diagnostic TokenCursor::UnexpectedKeyword(std::span<const std::string_view> keywords) const {
  return Unexpected(JoinAlternatives(keywords), keywords);
}

}  // namespace intarsia::query
