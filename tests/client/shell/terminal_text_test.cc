#include "client/shell/terminal_text.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace intarsia::client {
namespace {

using Lines = std::vector<std::string>;

TEST(TerminalTextTest, ControlCharactersLoseTheirPower) {
  EXPECT_EQ(SafeText("a\x1B[2Jb\a"), "a\uFFFD[2Jb\uFFFD");
  EXPECT_EQ(SafeText("a\nb\tc\r\n"), "a\nb\tc\n");
  EXPECT_EQ(SafeLine("a\nb\tc"), "a b c");
  EXPECT_EQ(SafeLine("a\xFF"), "a\uFFFD");
  // The one-character form of ESC [, and a mark that turns the direction of the line.
  EXPECT_EQ(SafeLine("\xC2\x9B"
                     "2J"),
            "\uFFFD2J");
  EXPECT_EQ(SafeLine("\u202Eabc"), "\uFFFDabc");
}

TEST(TerminalTextTest, CutCountsColumns) {
  EXPECT_EQ(CutToWidth("abc", 3), "abc");
  EXPECT_EQ(CutToWidth("abcd", 3), "ab…");
  EXPECT_EQ(CutToWidth("日本語", 6), "日本語");
  EXPECT_EQ(CutToWidth("日本語", 5), "日本…");
  EXPECT_EQ(CutToWidth("日本語", 4), "日…");
  EXPECT_EQ(CutToWidth("日本語", 2), "…");
  EXPECT_EQ(CutToWidth("ab", 1), "…");
  EXPECT_EQ(CutToWidth("e\u0301e\u0301", 2), "e\u0301e\u0301");
}

TEST(TerminalTextTest, WrapBreaksAtBlanksAndInLongWords) {
  EXPECT_EQ(WrapToWidth("one two three", 8, 9), (Lines{"one two", "three"}));
  EXPECT_EQ(WrapToWidth("one two", 3, 9), (Lines{"one", "two"}));
  EXPECT_EQ(WrapToWidth("abcdefgh", 3, 9), (Lines{"abc", "def", "gh"}));
  EXPECT_EQ(WrapToWidth("日本語", 4, 9), (Lines{"日本", "語"}));
  EXPECT_EQ(WrapToWidth("日", 1, 9), (Lines{"…"}));
  EXPECT_EQ(WrapToWidth("a\n\nb", 5, 9), (Lines{"a", "", "b"}));
  EXPECT_EQ(WrapToWidth("", 5, 1), (Lines{""}));
}

TEST(TerminalTextTest, WrapCutsAfterTheLastLine) {
  EXPECT_EQ(WrapToWidth("one two three four", 5, 2), (Lines{"one", "two …"}));
  EXPECT_EQ(WrapToWidth("a\nb\nc", 5, 2), (Lines{"a", "b…"}));
  EXPECT_EQ(WrapToWidth("a\nb", 5, 2), (Lines{"a", "b"}));
  const Lines lines = WrapToWidth(std::string(1'000'000, 'x'), 10, 3);
  EXPECT_EQ(lines, (Lines{"xxxxxxxxxx", "xxxxxxxxxx", "xxxxxxxxx…"}));
}

TEST(TerminalTextTest, EveryWrappedLineFits) {
  const std::string text = "mixed 日本語 text with a-very-long-word-inside and e\u0301 marks";
  for (int64_t columns = 1; columns < 30; ++columns) {
    for (const std::string& line : WrapToWidth(text, columns, 5)) {
      EXPECT_LE(DisplayWidth(line), columns) << line;
    }
  }
}

TEST(TerminalTextTest, PadFillsColumns) {
  EXPECT_EQ(Pad("日", 4, Alignment::kLeft), "日  ");
  EXPECT_EQ(Pad("7", 3, Alignment::kRight), "  7");
  EXPECT_EQ(Pad("long", 2, Alignment::kLeft), "long");
}

TEST(TerminalTextTest, NumbersAreReadable) {
  EXPECT_EQ(GroupDigits(0), "0");
  EXPECT_EQ(GroupDigits(999), "999");
  EXPECT_EQ(GroupDigits(1234567), "1,234,567");
  EXPECT_EQ(GroupDigits(-123456), "-123,456");
  EXPECT_EQ(GroupDigits(INT64_MIN), "-9,223,372,036,854,775,808");
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1'900'000), "1.9 MB");
  EXPECT_EQ(HumanBytes(123'000'000), "123 MB");
  EXPECT_EQ(HumanDuration(850), "850 ms");
  EXPECT_EQ(HumanDuration(1400), "1.4 s");
  EXPECT_EQ(HumanDuration(125'000), "2m 05s");
  EXPECT_EQ(HumanDuration(12'000'000), "3h 20m");
}

}  // namespace
}  // namespace intarsia::client
