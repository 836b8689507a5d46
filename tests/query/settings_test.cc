#include "query/settings.h"

#include <string>

#include <gtest/gtest.h>

#include "query/parser.h"

namespace intarsia::query {
namespace {

Failure Set(Settings* settings, const std::string& assignment) {
  const Outcome<Statement> statement = ParseStatement("SET " + assignment);
  if (!statement.ok()) return statement.diagnostic();
  return settings->Set(std::get<SetSetting>(*statement));
}

TEST(SettingsTest, SetChangesOneSetting) {
  Settings settings;
  EXPECT_EQ(settings.GetInteger("search.ef"), 64);
  EXPECT_FALSE(Set(&settings, "Search.EF = 200").has_value());
  EXPECT_EQ(settings.GetInteger("search.ef"), 200);
  EXPECT_FALSE(Set(&settings, "result_cache = on").has_value());
  EXPECT_TRUE(settings.GetBoolean("result_cache"));
  EXPECT_FALSE(Set(&settings, "device = 'cuda:0'").has_value());
  EXPECT_EQ(settings.GetText("device"), "cuda:0");
}

TEST(SettingsTest, MistakeChangesNothing) {
  Settings settings;
  const Failure range = Set(&settings, "search.ef = 0");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->message, "search.ef must be an integer from 1 to 10000, not 0");
  EXPECT_EQ(settings.GetInteger("search.ef"), 64);
  const Failure unknown = Set(&settings, "search.eff = 1");
  ASSERT_TRUE(unknown.has_value());
  EXPECT_EQ(unknown->message, "unknown setting \"search.eff\"");
  EXPECT_EQ(unknown->hint, "Did you mean \"search.ef\"?");
  EXPECT_EQ(unknown->range.begin, 4);
}

TEST(SettingsTest, ShowListsThoseThatMatch) {
  Settings settings;
  EXPECT_FALSE(Set(&settings, "search.limit = 3").has_value());
  const auto statement = ParseStatement("SHOW SETTINGS LIKE 'search%'");
  const ResultSet shown = settings.Show(std::get<ShowSettings>(*statement));
  ASSERT_EQ(shown.rows.size(), 2U);
  EXPECT_EQ(shown.rows[1][0].AsString(), "search.limit");
  EXPECT_EQ(shown.rows[1][1].AsInteger(), 3);
  EXPECT_EQ(settings.Show({}).rows.size(), OptionsOf(OptionTable::kSettings).size());
}

}  // namespace
}  // namespace intarsia::query
