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
  EXPECT_EQ(settings.GetInteger("search.limit"), 10);
  EXPECT_FALSE(Set(&settings, "Search.LIMIT = 200").has_value());
  EXPECT_EQ(settings.GetInteger("search.limit"), 200);
  EXPECT_FALSE(Set(&settings, "kv.write_behind = off").has_value());
  EXPECT_FALSE(settings.GetBoolean("kv.write_behind"));
  EXPECT_FALSE(Set(&settings, "search.scan = 'FLAT'").has_value());
  EXPECT_EQ(settings.GetText("search.scan"), "flat");
  EXPECT_FALSE(Set(&settings, "kv.disk_bytes_max = '1GiB'").has_value());
  EXPECT_EQ(settings.GetInteger("kv.disk_bytes_max"), int64_t{1} << 30);
}

TEST(SettingsTest, MistakeChangesNothing) {
  Settings settings;
  const Failure range = Set(&settings, "search.limit = 0");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->message, "search.limit must be an integer from 1 to 10000, not 0");
  EXPECT_EQ(settings.GetInteger("search.limit"), 10);
  const Failure unknown = Set(&settings, "search.limt = 1");
  ASSERT_TRUE(unknown.has_value());
  EXPECT_EQ(unknown->message, "unknown setting \"search.limt\"");
  EXPECT_EQ(unknown->hint, "Did you mean \"search.limit\"?");
  EXPECT_EQ(unknown->range.begin, 4);
}

TEST(SettingsTest, ShowListsThoseThatMatch) {
  Settings settings;
  EXPECT_FALSE(Set(&settings, "search.scan = binary").has_value());
  const auto statement = ParseStatement("SHOW SETTINGS LIKE 'search%'");
  const ResultSet shown = settings.Show(std::get<ShowSettings>(*statement));
  ASSERT_EQ(shown.rows.size(), 3U);
  EXPECT_EQ(shown.rows[1][0].AsString(), "search.scan");
  EXPECT_EQ(shown.rows[1][1].AsString(), "binary");
  EXPECT_EQ(settings.Show({}).rows.size(), OptionsOf(OptionTable::kSettings).size());
}

}  // namespace
}  // namespace intarsia::query
