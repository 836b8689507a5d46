#include "query/lexer.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::query {
namespace {

using K = TokenKind;

std::vector<Token> Lex(std::string_view sql) {
  std::vector<Token> tokens;
  Lexer lexer(sql);
  do {
    tokens.push_back(lexer.Next());
  } while (tokens.back().kind != K::kEnd);
  return tokens;
}

std::vector<TokenKind> Kinds(std::string_view sql) {
  std::vector<TokenKind> kinds;
  for (const Token& token : Lex(sql)) kinds.push_back(token.kind);
  kinds.pop_back();
  return kinds;
}

std::vector<std::string> Texts(std::string_view sql) {
  std::vector<std::string> texts;
  for (const Token& token : Lex(sql)) texts.emplace_back(TokenText(sql, token));
  texts.pop_back();
  return texts;
}

using KindList = std::vector<TokenKind>;
using Strings = std::vector<std::string>;

TEST(LexerTest, OperatorsAreReadLongestFirst) {
  EXPECT_EQ(Kinds("= == => <> != < <= > >= <=>"),
            (KindList{K::kEqual, K::kEqual, K::kArrow, K::kNotEqual, K::kNotEqual, K::kLess,
                      K::kLessEqual, K::kGreater, K::kGreaterEqual, K::kLessEqual, K::kGreater}));
  EXPECT_EQ(Kinds("(),[];.*+-\\G"),
            (KindList{K::kLeftParen, K::kRightParen, K::kComma, K::kLeftBracket, K::kRightBracket,
                      K::kSemicolon, K::kDot, K::kStar, K::kPlus, K::kMinus, K::kVertical}));
}

TEST(LexerTest, WordsMayBeInAnyScript) {
  EXPECT_EQ(Texts("größe _x a1$ 名前 select"), (Strings{"größe", "_x", "a1$", "名前", "select"}));
}

TEST(LexerTest, QuotesAreDoubledInsideQuotes) {
  const std::string sql = R"('it''s' "a""b" '' "'")";
  const std::vector<Token> tokens = Lex(sql);
  ASSERT_EQ(tokens.size(), 5U);
  EXPECT_EQ(DecodeQuoted(sql, tokens[0]), "it's");
  EXPECT_EQ(DecodeQuoted(sql, tokens[1]), "a\"b");
  EXPECT_EQ(DecodeQuoted(sql, tokens[2]), "");
  EXPECT_EQ(DecodeQuoted(sql, tokens[3]), "'");
}

TEST(LexerTest, NumbersHaveTwoKinds) {
  EXPECT_EQ(Kinds("1 12.5 .5 1e3 1E-3 2."),
            (KindList{K::kInteger, K::kDouble, K::kDouble, K::kDouble, K::kDouble, K::kDouble}));
  EXPECT_EQ(Kinds("12ab 1.2.3 1e"), (KindList{K::kBadNumber, K::kBadNumber, K::kBadNumber}));
}

TEST(LexerTest, CommentsAreBlanksAndNest) {
  EXPECT_EQ(Texts("a -- b\nc /* d /* e */ f */ g --"), (Strings{"a", "c", "g"}));
  EXPECT_EQ(Texts("a - b"), (Strings{"a", "-", "b"}));
}

TEST(LexerTest, UnterminatedTokensReachTheEnd) {
  EXPECT_EQ(Kinds("a 'b; c"), (KindList{K::kWord, K::kUnterminatedString}));
  EXPECT_EQ(Kinds("a \"b"), (KindList{K::kWord, K::kUnterminatedName}));
  EXPECT_EQ(Kinds("a /* b /* */"), (KindList{K::kWord, K::kUnterminatedComment}));
  const std::vector<Token> tokens = Lex("a /* b");
  EXPECT_EQ(tokens[1].range.begin, 2);
  EXPECT_EQ(tokens[1].range.end, 6);
}

TEST(LexerTest, StrayCharactersAreTokensOfTheirOwn) {
  EXPECT_EQ(Kinds("a ? b"), (KindList{K::kWord, K::kBadCharacter, K::kWord}));
  EXPECT_EQ(Kinds(std::string_view("a\0b", 3)), (KindList{K::kWord, K::kBadCharacter, K::kWord}));
}

TEST(LexerTest, RangesAreBytes) {
  const std::vector<Token> tokens = Lex("名 'x'");
  EXPECT_EQ(tokens[0].range.begin, 0);
  EXPECT_EQ(tokens[0].range.end, 3);
  EXPECT_EQ(tokens[1].range.begin, 4);
  EXPECT_EQ(tokens[1].range.end, 7);
}

TEST(LexerTest, ReservedWordsAreKnownInAnyCase) {
  EXPECT_TRUE(IsReserved("where"));
  EXPECT_TRUE(IsReserved("WITH"));
  EXPECT_FALSE(IsReserved("title"));
}

}  // namespace
}  // namespace intarsia::query
