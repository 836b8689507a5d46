#include "client/shell/word_wrap.h"

#include <string>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

// The text in pieces of `num_bytes`.
std::string Wrap(std::string_view text, int64_t columns, size_t num_bytes) {
  WordWrap wrap(columns);
  std::string shown;
  for (size_t i = 0; i < text.size(); i += num_bytes) shown += wrap.Push(text.substr(i, num_bytes));
  return shown + wrap.Finish();
}

TEST(WordWrapTest, LinesBreakAtBlanksHoweverTheTextComes) {
  for (const size_t num_bytes : {1, 2, 3, 100}) {
    EXPECT_EQ(Wrap("one two three four", 9, num_bytes), "one two\nthree\nfour");
    EXPECT_EQ(Wrap("one two  \n\n  three", 9, num_bytes), "one two\n\n  three");
    EXPECT_EQ(Wrap("größe Straße x", 8, num_bytes), "größe\nStraße x");
  }
}

TEST(WordWrapTest, AWordWiderThanALineIsLeftToTheTerminal) {
  EXPECT_EQ(Wrap("a 0123456789 b c", 4, 1), "a\n0123456789 b\nc");
}

TEST(WordWrapTest, WithoutColumnsNothingChanges) {
  WordWrap wrap(0);
  EXPECT_EQ(wrap.Push("a  b "), "a  b ");
  EXPECT_EQ(wrap.Push("c"), "c");
  EXPECT_EQ(wrap.Finish(), "");
}

}  // namespace
}  // namespace intarsia::client
