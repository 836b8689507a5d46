#include "query/suggest.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace intarsia::query {
namespace {

constexpr std::array<std::string_view, 5> kColumns = {"source", "content", "title", "page",
                                                      "chunk_tokens"};

TEST(SuggestTest, DistanceCountsTheFourEdits) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("abc", "abc"), 0);
  EXPECT_EQ(EditDistance("abc", "abd"), 1);
  EXPECT_EQ(EditDistance("abc", "ab"), 1);
  EXPECT_EQ(EditDistance("abc", "acb"), 1);
  EXPECT_EQ(EditDistance("ca", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
}

TEST(SuggestTest, DistanceIgnoresCaseAndCountsCodePoints) {
  EXPECT_EQ(EditDistance("SOURCE", "source"), 0);
  EXPECT_EQ(EditDistance("größe", "grösse"), 2);
  EXPECT_EQ(EditDistance("日本語", "日本"), 1);
}

TEST(SuggestTest, LongNamesAreCompared) {
  const std::string a(1000, 'a');
  EXPECT_EQ(EditDistance(a, a + "b"), 0);
  EXPECT_EQ(EditDistance(a, ""), 64);
}

TEST(SuggestTest, NearestNameIsTheOneMeant) {
  EXPECT_EQ(NearestName("sorce", kColumns), "source");
  EXPECT_EQ(NearestName("soruce", kColumns), "source");
  EXPECT_EQ(NearestName("PAGE", kColumns), "page");
  EXPECT_EQ(NearestName("chunk_token", kColumns), "chunk_tokens");
}

TEST(SuggestTest, BeginningOfANameIsNear) {
  EXPECT_EQ(NearestName("chunk", kColumns), "chunk_tokens");
  EXPECT_EQ(NearestName("ch", kColumns), "");
}

TEST(SuggestTest, NothingIsNearToAStrangeName) {
  EXPECT_EQ(NearestName("weather", kColumns), "");
  EXPECT_EQ(NearestName("", kColumns), "");
  EXPECT_EQ(NearestName("x", kColumns), "");
  EXPECT_EQ(DidYouMean(""), "");
}

TEST(SuggestTest, AlternativesAreJoinedAsASentenceNeedsThem) {
  EXPECT_EQ(JoinAlternatives(std::span(kColumns).first(1)), "source");
  EXPECT_EQ(JoinAlternatives(std::span(kColumns).first(2)), "source or content");
  EXPECT_EQ(JoinAlternatives(std::span(kColumns).first(3)), "source, content or title");
}

}  // namespace
}  // namespace intarsia::query
