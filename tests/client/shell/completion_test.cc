#include "client/shell/completion.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

using Words = std::vector<std::string>;

TEST(CompletionTest, CommandsStandAtTheBeginning) {
  EXPECT_EQ(CompleteLine(".mo", {}), (Words{".mode", ".models"}));
  EXPECT_EQ(CompleteLine(".read .mo", {}), (Words{}));
}

TEST(CompletionTest, KeywordsFollowTheCaseOfTheWord) {
  EXPECT_EQ(CompleteLine("SEL", {}), (Words{"SELECT"}));
  EXPECT_EQ(CompleteLine("expl", {}), (Words{"explain"}));
}

TEST(CompletionTest, NamesAndOptionsAreOffered) {
  EXPECT_EQ(CompleteLine("ANSWER 'q' FROM hand", {"handbook", "other"}), (Words{"handbook"}));
  EXPECT_EQ(CompleteLine("ANSWER 'q' FROM x WITH (k = 3, propa", {}), (Words{"propagate"}));
}

TEST(CompletionTest, NamesAreWrittenAsAStatementReadsThem) {
  const std::vector<std::string> names = {"my docs", "my_docs", "order"};
  EXPECT_EQ(CompleteLine("SELECT * FROM my", names), (Words{"\"my docs\"", "my_docs"}));
  EXPECT_EQ(CompleteLine("SELECT * FROM \"my", names), (Words{"\"my docs\""}));
  EXPECT_EQ(CompleteLine("DESCRIBE orde", names), (Words{"\"order\"", "order"}));
}

TEST(CompletionTest, ANameThatControlsTheTerminalIsNotOffered) {
  EXPECT_EQ(CompleteLine("DESCRIBE doc", {"docs", "docs\x1B]0;x\a", "doc\ns"}), (Words{"docs"}));
}

TEST(CompletionTest, NothingIsOfferedForNoWord) {
  EXPECT_EQ(CompleteLine("", {"a"}), (Words{}));
  EXPECT_EQ(CompleteLine("SELECT ", {"a"}), (Words{}));
}

}  // namespace
}  // namespace intarsia::client
