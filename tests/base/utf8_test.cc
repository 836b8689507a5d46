#include "base/utf8.h"

#include <cstdint>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

using namespace std::string_view_literals;

TEST(Utf8Test, WellFormedTextHasNoInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8(""), -1);
  EXPECT_EQ(FindInvalidUtf8("plain"), -1);
  EXPECT_EQ(FindInvalidUtf8("with \0 inside"sv), -1);
  EXPECT_EQ(FindInvalidUtf8("Gr\xc3\xbc\xc3\x9f Gott \xe2\x82\xac \xf0\x9f\x98\x80"), -1);
  EXPECT_EQ(FindInvalidUtf8("\xf4\x8f\xbf\xbf"), -1);  // U+10FFFF, the last one
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8("ab\xff"), 2);
  EXPECT_EQ(FindInvalidUtf8("\x80"), 0);                  // a continuation alone
  EXPECT_EQ(FindInvalidUtf8("\xc3\xbc\xe2\x82"), 2);      // cut off
  EXPECT_EQ(FindInvalidUtf8("\xc0\x80"), 0);              // overlong NUL
  EXPECT_EQ(FindInvalidUtf8("\xe0\x80\xaf"), 0);          // overlong slash
  EXPECT_EQ(FindInvalidUtf8("a\xed\xa0\x80"), 1);         // a surrogate
  EXPECT_EQ(FindInvalidUtf8("\xf4\x90\x80\x80"), 0);      // above U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xf8\x88\x80\x80\x80"), 0);  // five bytes
}

TEST(Utf8Test, CountsCodePoints) {
  EXPECT_EQ(CountCodePoints(""), 0);
  EXPECT_EQ(CountCodePoints("abc"), 3);
  EXPECT_EQ(CountCodePoints("\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"), 3);
}

TEST(Utf8Test, RepairLeavesWellFormedTextAlone) {
  int64_t num_replaced = 7;
  const std::string text = "Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80";
  EXPECT_EQ(RepairUtf8(text, &num_replaced), text);
  EXPECT_EQ(num_replaced, 0);
  EXPECT_EQ(RepairUtf8("", nullptr), "");
}

// The counts are those of Unicode's "maximal subparts" and of Python's errors="replace".
TEST(Utf8Test, RepairReplacesEachIllFormedSequence) {
  const std::string mark = "\xef\xbf\xbd";
  const struct {
    std::string_view text;
    std::string repaired;
    int64_t num_replaced;
  } cases[] = {
      {"a\xff"
       "b",
       "a" + mark + "b", 1},
      {"\xe2\x82", mark, 1},         // cut off at the end
      {"\xe2\x82z", mark + "z", 1},  // cut off by another character
      {"\xf0\x9f\x98\xf0\x9f\x98\x80", mark + "\xf0\x9f\x98\x80", 1},
      {"\xc0\x80", mark + mark, 2},                        // overlong: neither byte may stand
      {"\xed\xa0\x80", mark + mark + mark, 3},             // a surrogate
      {"\xe0\x80\xaf", mark + mark + mark, 3},             // overlong
      {"\xf4\x90\x80\x80", mark + mark + mark + mark, 4},  // above U+10FFFF
      {"\x80\x80", mark + mark, 2},
      {"\xc3\xc3\xbc", mark + "\xc3\xbc", 1},
  };
  for (const auto& expected : cases) {
    int64_t num_replaced = -1;
    EXPECT_EQ(RepairUtf8(expected.text, &num_replaced), expected.repaired);
    EXPECT_EQ(num_replaced, expected.num_replaced) << expected.repaired;
  }
}

TEST(Utf8Test, DecodesOneCodePoint) {
  const std::string text = "a\xe2\x82\xac\xff\xe2\x82";
  const struct {
    int64_t offset;
    char32_t value;
    int64_t num_bytes;
  } cases[] = {{0, U'a', 1}, {1, U'\u20ac', 3}, {4, U'\ufffd', 1}, {5, U'\ufffd', 1}};
  for (const auto& expected : cases) {
    const CodePoint code_point = DecodeCodePoint(text, expected.offset);
    EXPECT_EQ(code_point.value, expected.value) << expected.offset;
    EXPECT_EQ(code_point.num_bytes, expected.num_bytes) << expected.offset;
  }
}

TEST(Utf8Test, AppendedCodePointsAreReadAgain) {
  for (const char32_t value : {U'\0', U'a', U'\x7f', U'\u0080', U'\u07ff', U'\u0800', U'\ufffd',
                               U'\U00010000', U'\U0010ffff'}) {
    std::string text = "x";
    AppendCodePoint(value, &text);
    EXPECT_EQ(FindInvalidUtf8(text), -1);
    const CodePoint code_point = DecodeCodePoint(text, 1);
    EXPECT_EQ(code_point.value, value);
    EXPECT_EQ(code_point.num_bytes, static_cast<int64_t>(text.size()) - 1);
  }
}

TEST(Utf8Test, WidthIsThatOfATerminal) {
  EXPECT_EQ(DisplayWidth(""), 0);
  EXPECT_EQ(DisplayWidth("abc"), 3);
  EXPECT_EQ(DisplayWidth("\xe6\xbc\xa2\xe5\xad\x97"), 4);  // two wide characters
  EXPECT_EQ(DisplayWidth("e\xcc\x81"), 1);                 // e with a combining accent
}

TEST(Utf8Test, RepairedTextIsWellFormedForEveryPairOfBytes) {
  for (int first = 0x70; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text = {static_cast<char>(first), static_cast<char>(second), 'z'};
      const std::string repaired = RepairUtf8(text, nullptr);
      EXPECT_EQ(FindInvalidUtf8(repaired), -1) << first << " " << second;
      EXPECT_EQ(repaired == text, FindInvalidUtf8(text) == -1) << first << " " << second;
    }
  }
}

}  // namespace
}  // namespace intarsia
