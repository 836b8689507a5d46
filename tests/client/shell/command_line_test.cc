#include "client/shell/command_line.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

using Words = std::vector<std::string>;

CommandLine Parsed(Words arguments) {
  const auto parsed = ParseCommandLine(std::move(arguments));
  const auto* end = std::get_if<CommandLineEnd>(&parsed);
  EXPECT_EQ(end, nullptr) << (end == nullptr ? "" : end->text);
  return end == nullptr ? std::get<CommandLine>(parsed) : CommandLine{};
}

CommandLineEnd Ended(Words arguments) {
  const auto parsed = ParseCommandLine(std::move(arguments));
  const auto* end = std::get_if<CommandLineEnd>(&parsed);
  EXPECT_NE(end, nullptr);
  return end == nullptr ? CommandLineEnd{} : *end;
}

TEST(CommandLineTest, EverythingHasItsPlace) {
  const CommandLine line =
      Parsed({"./kb", "-c", "SHOW MODELS; SHOW CACHE", "-c", "SHOW SETTINGS", "-f", "a.sql",
              "--format", "json", "--readonly", "--accept-loss"});
  EXPECT_EQ(line.database, "./kb");
  EXPECT_EQ(line.commands, (Words{"SHOW MODELS; SHOW CACHE", "SHOW SETTINGS"}));
  EXPECT_EQ(line.files, (Words{"a.sql"}));
  EXPECT_EQ(line.mode, OutputMode::kJson);
  EXPECT_EQ(line.access, AccessMode::kReadOnly);
  EXPECT_EQ(line.lost_commits, LostCommits::kAccept);
  EXPECT_TRUE(line.has_script());
}

TEST(CommandLineTest, EverythingMayBeLeftOut) {
  const CommandLine line = Parsed({});
  EXPECT_EQ(line.database, "");
  EXPECT_EQ(line.mode, std::nullopt);
  EXPECT_EQ(line.access, AccessMode::kReadWrite);
  EXPECT_EQ(line.lost_commits, LostCommits::kRefuse);
  EXPECT_FALSE(line.has_script());
}

TEST(CommandLineTest, OptionsMayStandBeforeTheDirectory) {
  const CommandLine line = Parsed({"-c", "SELECT 1", "./kb"});
  EXPECT_EQ(line.database, "./kb");
  EXPECT_EQ(line.commands, (Words{"SELECT 1"}));
}

TEST(CommandLineTest, SqlIsTakenAsItStands) {
  EXPECT_EQ(Parsed({"-c", "-- comment"}).commands, (Words{"-- comment"}));
  EXPECT_EQ(Parsed({"-c", "[x], 'y' \"z\""}).commands, (Words{"[x], 'y' \"z\""}));
  EXPECT_EQ(Parsed({"--command=SHOW MODELS"}).commands, (Words{"SHOW MODELS"}));
}

TEST(CommandLineTest, ShortFormsOfModes) {
  EXPECT_EQ(Parsed({"--json"}).mode, OutputMode::kJson);
  EXPECT_EQ(Parsed({"--csv"}).mode, OutputMode::kCsv);
}

TEST(CommandLineTest, HelpAndVersionEndWithSuccess) {
  EXPECT_EQ(Ended({"--help"}).exit_code, kExitOk);
  EXPECT_NE(Ended({"--help"}).text.find("--readonly"), std::string::npos);
  EXPECT_EQ(Ended({"--version"}).exit_code, kExitOk);
  EXPECT_TRUE(Ended({"--version"}).text.starts_with("intarsia "));
}

TEST(CommandLineTest, BadUsageEndsWithTwo) {
  for (const Words& arguments :
       {Words{"a", "b"}, Words{"--weather"}, Words{"-c"}, Words{"-f"}, Words{"--json", "--csv"},
        Words{"--json", "--format", "csv"}, Words{"--format", "xml"}}) {
    EXPECT_EQ(Ended(arguments).exit_code, kExitUsage) << arguments[0];
  }
  EXPECT_NE(Ended({"--fromat", "json"}).text.find("Did you mean \"--format\"?"), std::string::npos);
  EXPECT_NE(Ended({"--format", "xml"}).text.find("jsonl"), std::string::npos);
}

}  // namespace
}  // namespace intarsia::client
