#include "query/sentences.h"

#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/query/random_documents.h"
#include "tests/query/word_counter.h"

namespace intarsia::query {
namespace {

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> sentences;
  for (const ByteRange& range : SplitSentences(text)) sentences.emplace_back(range.Of(text));
  return sentences;
}

using Sentences = std::vector<std::string>;

TEST(SentencesTest, ProseIsSplitAtItsStops) {
  EXPECT_EQ(Split("It rains. Does it? Yes!  Good\nthat we know."),
            (Sentences{"It rains.", "Does it?", "Yes!", "Good\nthat we know."}));
}

TEST(SentencesTest, AbbreviationsInitialsAndNumbersDoNotSplit) {
  const Sentences whole = {
      "Dr. Smith met Mr. J. R. Jones at 3.14 p.m. today.",
      "See Fig. 3 and No. 5 of Vol. 2, e.g. the second.",
      "The U.S. Army and Washington D.C. Police agree.",
      "Use cf. Miller, i.e. The Book, vs. Others.",
      "Open www.example.com or file.txt now.",
      "He holds a Ph.D. From where is not said.",
  };
  for (const std::string& sentence : whole) EXPECT_EQ(Split(sentence), Sentences{sentence});
}

TEST(SentencesTest, OrdinaryWordsThatLookLikeAbbreviationsDo) {
  EXPECT_EQ(Split("He said no. Then he left."), (Sentences{"He said no.", "Then he left."}));
  EXPECT_EQ(Split("That was World War I. The next came."),
            (Sentences{"That was World War I.", "The next came."}));
}

TEST(SentencesTest, ClosingQuotesAndBracketsStay) {
  EXPECT_EQ(Split("\"Stop!\" He ran. (It was late.) \xE2\x80\x9CWhy?\xE2\x80\x9D Nobody knew."),
            (Sentences{"\"Stop!\"", "He ran.", "(It was late.)", "\xE2\x80\x9CWhy?\xE2\x80\x9D",
                       "Nobody knew."}));
  EXPECT_EQ(Split("\"Stop!\" he cried."), Sentences{"\"Stop!\" he cried."});
}

TEST(SentencesTest, OtherScriptsHaveTheirOwnStops) {
  EXPECT_EQ(Split("他来了。我走了！「真的？」是。"),
            (Sentences{"他来了。", "我走了！", "「真的？」", "是。"}));
  EXPECT_EQ(Split("यह एक वाक्य है। दूसरा वाक्य।"), (Sentences{"यह एक वाक्य है।", "दूसरा वाक्य।"}));
  EXPECT_EQ(Split("Это раз. Это два. стр. пять."), (Sentences{"Это раз.", "Это два. стр. пять."}));
}

TEST(SentencesTest, EllipsesFollowWhatComesNext) {
  EXPECT_EQ(Split("Wait... what? Well... Then go."),
            (Sentences{"Wait... what?", "Well...", "Then go."}));
}

TEST(SentencesTest, MarkdownLinesEndSentences) {
  EXPECT_EQ(Split("# 1. A heading. With a stop\nText goes\non. End\n- item one\n- item two. More\n"
                  "1. First. Second\n| a. B | c |\n|---|---|\n> quoted\n> text\nlast"),
            (Sentences{"# 1. A heading. With a stop", "Text goes\non.", "End", "- item one",
                       "- item two.", "More", "1. First.", "Second", "| a. B | c |", "|---|---|",
                       "> quoted\n> text\nlast"}));
  EXPECT_EQ(Split("Title\n=====\nBody"), (Sentences{"Title\n=====", "Body"}));
  EXPECT_EQ(Split("```\na = b. C\n\nd\n```\nProse."),
            (Sentences{"```", "a = b. C", "d", "```", "Prose."}));
}

TEST(SentencesTest, BlankLinesAlwaysEndSentences) {
  EXPECT_EQ(Split("one\n\ntwo\r\n\r\nthree\n \t\nfour"),
            (Sentences{"one", "two", "three", "four"}));
  EXPECT_TRUE(Split("").empty());
  EXPECT_TRUE(Split(" \n\t\n ").empty());
}

TEST(SentencesTest, EveryVisibleByteIsInExactlyOneSentence) {
  RandomDocuments documents(7);
  for (int round = 0; round < 500; ++round) {
    const std::string text = round % 2 == 0 ? documents.Markdown() : documents.Html();
    int64_t at = 0;
    for (const ByteRange& range : SplitSentences(text)) {
      ASSERT_LE(at, range.begin);
      ASSERT_LT(range.begin, range.end);
      for (; at < range.begin; ++at) ASSERT_TRUE(IsBlankByte(text[static_cast<size_t>(at)]));
      ASSERT_FALSE(IsBlankByte(range.Of(text).front()));
      ASSERT_FALSE(IsBlankByte(range.Of(text).back()));
      ASSERT_LT(FindInvalidUtf8(range.Of(text)), 0);
      at = range.end;
    }
    for (; at < static_cast<int64_t>(text.size()); ++at) {
      ASSERT_TRUE(IsBlankByte(text[static_cast<size_t>(at)]));
    }
  }
}

TEST(SentencesTest, BytesThatAreNotUtf8AreKept) {
  EXPECT_EQ(Split("ab\xFF. Cd\x80 e."), (Sentences{"ab\xFF.", "Cd\x80 e."}));
}

// Quadratic work would take minutes, which the runner of the tests does not wait for.
TEST(SentencesTest, HostileTextIsCutInLinearTime) {
  constexpr size_t kSize = size_t{2} << 20;
  for (const std::string_view unit :
       {".", ". ", "\" ", "( ", ".\"", "a.", "1. ", "# ", "> \n", "e.g. "}) {
    std::string text;
    while (text.size() < kSize) text += unit;
    const std::vector<ByteRange> sentences = SplitSentences(text);
    ASSERT_FALSE(sentences.empty()) << unit;
    EXPECT_LE(sentences.back().end, std::ssize(text)) << unit;
  }
}

}  // namespace
}  // namespace intarsia::query
