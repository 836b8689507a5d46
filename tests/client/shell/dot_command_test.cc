#include "client/shell/dot_command.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

using Words = std::vector<std::string>;

TEST(DotCommandTest, NamesMayBeShortened) {
  EXPECT_EQ(ParseDotCommand(".mode json")->kind, DotCommandKind::kMode);
  EXPECT_EQ(ParseDotCommand(".h")->kind, DotCommandKind::kHelp);
  EXPECT_EQ(ParseDotCommand(".q")->kind, DotCommandKind::kExit);
  EXPECT_EQ(ParseDotCommand(".mode")->kind, DotCommandKind::kMode);
  EXPECT_EQ(ParseDotCommand(".models;")->kind, DotCommandKind::kModels);
}

TEST(DotCommandTest, ArgumentsMayBeQuoted) {
  EXPECT_EQ(ParseDotCommand(".read 'my file.sql'")->arguments, (Words{"my file.sql"}));
  EXPECT_EQ(ParseDotCommand(".nullvalue \"\"")->arguments, (Words{""}));
  EXPECT_EQ(ParseDotCommand(".read a\" b\"c ;")->arguments, (Words{"a bc"}));
}

TEST(DotCommandTest, MistakesAreNamed) {
  EXPECT_EQ(ParseDotCommand(".mo").diagnostic().hint, "It may be .mode or .models.");
  EXPECT_EQ(ParseDotCommand(".hlep").diagnostic().hint, "Did you mean \".help\"?");
  EXPECT_EQ(ParseDotCommand(".weather").diagnostic().hint, ".help lists the commands.");
  EXPECT_EQ(ParseDotCommand(".").diagnostic().message, "unknown command: .");
  EXPECT_EQ(ParseDotCommand(";").diagnostic().message, "command without a name");
  EXPECT_EQ(ParseDotCommand(".read 'a").diagnostic().message, "argument without its closing quote");
  EXPECT_EQ(ParseDotCommand(".read a b").diagnostic().hint, "It is written .read FILE.");
}

TEST(DotCommandTest, TableIsSorted) {
  for (size_t i = 1; i < DotCommands().size(); ++i) {
    EXPECT_LT(DotCommands()[i - 1].name, DotCommands()[i].name);
  }
}

}  // namespace
}  // namespace intarsia::client
