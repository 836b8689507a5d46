#include "query/options.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "query/parser.h"

namespace intarsia::query {
namespace {

Outcome<BoundOptions> BindAnswer(const std::string& with, std::string* sql = nullptr) {
  const std::string text = "ANSWER 'q' FROM c WITH (" + with + ")";
  if (sql != nullptr) *sql = text;
  INTARSIA_ASSIGN_OR_FAIL(const Statement statement, ParseStatement(text));
  return BindOptions(OptionTable::kAnswer, std::get<Answer>(statement).options);
}

TEST(OptionsTest, DefaultsOfEveryTableAreValid) {
  for (const OptionTable table :
       {OptionTable::kCreateModel, OptionTable::kCreateCollection, OptionTable::kCopy,
        OptionTable::kSearch, OptionTable::kAnswer, OptionTable::kSettings}) {
    const BoundOptions options(table);
    EXPECT_FALSE(OptionsOf(table).empty());
    for (const OptionSpec& spec : OptionsOf(table)) {
      EXPECT_EQ(options.is_set(spec.name), !spec.default_text.empty()) << spec.name;
      EXPECT_FALSE(options.is_given(spec.name));
      EXPECT_FALSE(spec.help.empty()) << spec.name;
    }
  }
}

TEST(OptionsTest, GivenValuesReplaceDefaults) {
  const auto options = BindAnswer("k = 4, ratio = 0, order = 'REVERSE', seed = 7");
  ASSERT_TRUE(options.ok()) << options.diagnostic().message;
  EXPECT_EQ(options->GetInteger("k"), 4);
  EXPECT_EQ(options->GetDouble("ratio"), 0.0);
  EXPECT_EQ(options->GetText("order"), "reverse");
  EXPECT_EQ(options->GetInteger("max_tokens"), 300);
  EXPECT_TRUE(options->is_given("seed"));
  EXPECT_FALSE(options->is_given("max_tokens"));
}

TEST(OptionsTest, SynonymIsTheSameOption) {
  EXPECT_EQ(BindAnswer("fusion = deviation")->GetText("selector"), "deviation");
  const auto twice = BindAnswer("selector = none, fusion = full");
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.diagnostic().message, "option \"selector\" is given twice");
  EXPECT_EQ(twice.diagnostic().hint, "\"fusion\" is another name for it.");
}

TEST(OptionsTest, PresetDecidesTheRatioUnlessItIsGiven) {
  EXPECT_EQ(BindAnswer("k = 1")->GetDouble("ratio"), 0.15);
  EXPECT_EQ(BindAnswer("preset = fast")->GetDouble("ratio"), 0.05);
  EXPECT_EQ(BindAnswer("preset = 'careful'")->GetDouble("ratio"), 0.30);
  EXPECT_EQ(BindAnswer("preset = default")->GetDouble("ratio"), 0.15);
  EXPECT_EQ(BindAnswer("preset = fast, ratio = 0.5")->GetDouble("ratio"), 0.5);
}

TEST(OptionsTest, TheFastPresetPlacesRowsByDesignWhereTheyArePropagated) {
  EXPECT_EQ(BindAnswer("preset = fast")->GetText("selector"), "design");
  EXPECT_EQ(BindAnswer("preset = careful")->GetText("selector"), "attention");
  EXPECT_EQ(BindAnswer("preset = fast, selector = stride")->GetText("selector"), "stride");
  EXPECT_EQ(BindAnswer("preset = fast, propagate = off")->GetText("selector"), "attention");
}

TEST(OptionsTest, DurationsHaveUnits) {
  const auto seconds = [](Value value) -> int64_t {
    const auto spec = FindOption(OptionTable::kAlterCollection, {"cache_ttl", {}});
    EXPECT_TRUE(spec.ok());
    const auto bound = BindOptionValue(**spec, {std::move(value), /*is_word=*/false, {}});
    if (bound.ok()) return bound->AsInteger();
    EXPECT_NE(bound.diagnostic().message.find("a number of seconds, or a text such as '7d'"),
              std::string::npos)
        << bound.diagnostic().message;
    return -1;
  };
  EXPECT_EQ(seconds(Value(90)), 90);
  EXPECT_EQ(seconds(Value("90")), 90);
  EXPECT_EQ(seconds(Value("90s")), 90);
  EXPECT_EQ(seconds(Value("15 m")), 900);
  EXPECT_EQ(seconds(Value("1.5h")), 5'400);
  EXPECT_EQ(seconds(Value("7d")), 604'800);
  EXPECT_EQ(seconds(Value("2W")), 1'209'600);
  EXPECT_EQ(seconds(Value("0")), 0);
  for (const char* const bad : {"", "d", "7y", "-1d", "0.2s", "1e400d", "nan", "900000w"}) {
    EXPECT_EQ(seconds(Value(bad)), -1) << bad;
  }
  EXPECT_EQ(seconds(Value(-1)), -1);
  EXPECT_EQ(seconds(Value(1.5)), -1);
}

TEST(OptionsTest, OnAndOffMayBeWrittenAsBooleans) {
  const auto spec = FindOption(OptionTable::kCreateCollection, {"kv_cache", {}});
  ASSERT_TRUE(spec.ok());
  const auto value = BindOptionValue(**spec, {Value(false), /*is_word=*/false, {}});
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->AsString(), "off");
}

TEST(OptionsTest, BooleansAreFourWords) {
  const auto bind = [](Value value) {
    const auto spec = FindOption(OptionTable::kSettings, {"kv.write_behind", {}});
    return BindOptionValue(**spec, {std::move(value), /*is_word=*/false, {}});
  };
  EXPECT_TRUE(bind(Value(true))->AsBoolean());
  EXPECT_TRUE(bind(Value("ON"))->AsBoolean());
  EXPECT_FALSE(bind(Value("off"))->AsBoolean());
  EXPECT_FALSE(bind(Value("False"))->AsBoolean());
  EXPECT_EQ(bind(Value(1)).diagnostic().message, "kv.write_behind must be true or false, not 1");
  EXPECT_FALSE(bind(Value("maybe")).ok());
}

TEST(OptionsTest, BytesHaveUnits) {
  const auto bind = [](std::string_view text) {
    const auto spec = FindOption(OptionTable::kSettings, {"kv.disk_bytes_max", {}});
    return BindOptionValue(**spec, {Value(text), /*is_word=*/false, {}});
  };
  EXPECT_EQ(bind("512MB")->AsInteger(), 512'000'000);
  EXPECT_EQ(bind("1.5 GiB")->AsInteger(), 1'610'612'736);
  EXPECT_EQ(bind("4096")->AsInteger(), 4096);
  EXPECT_EQ(bind("0kib")->AsInteger(), 0);
  for (const char* text : {"", "MB", "-1MB", "1XB", "1e99", "nan", "inf", "99999999TB"}) {
    EXPECT_FALSE(bind(text).ok()) << text;
  }
}

struct ErrorCase {
  std::string with;
  std::string_view pointed_at;
  std::string_view message;
  std::string_view hint;
};

TEST(OptionsTest, MistakesSayWhatIsAllowed) {
  const std::vector<ErrorCase> cases = {
      {"max_token = 3", "max_token", "unknown option \"max_token\" of ANSWER",
       "Did you mean \"max_tokens\"?"},
      {"fussion = 'full'", "fussion", "unknown option \"fussion\" of ANSWER",
       "Did you mean \"fusion\"?"},
      {"k = 1, K = 2", "K", "option \"k\" is given twice", ""},
      {"k = 0", "0", "k must be an integer from 1 to 256, not 0", ""},
      {"k = 257", "257", "k must be an integer from 1 to 256, not 257", ""},
      {"k = 'many'", "'many'", "k must be an integer from 1 to 256, not 'many'", ""},
      {"k = 2.5", "2.5", "k must be an integer from 1 to 256, not 2.5", ""},
      {"k = NULL", "NULL", "k must be an integer from 1 to 256, not NULL", ""},
      {"ratio = 1.5", "1.5", "ratio must be a number from 0 to 1, not 1.5", ""},
      {"on_no_evidence = 'refuze'", "'refuze'",
       "on_no_evidence must be 'refuse' or 'answer', not 'refuze'", "Did you mean \"refuse\"?"},
  };
  for (const ErrorCase& error : cases) {
    std::string sql;
    const auto options = BindAnswer(error.with, &sql);
    ASSERT_FALSE(options.ok()) << error.with;
    const Diagnostic& diagnostic = options.diagnostic();
    EXPECT_EQ(diagnostic.error_class, ErrorClass::kBinder);
    EXPECT_EQ(diagnostic.message, error.message);
    EXPECT_EQ(diagnostic.hint, error.hint) << error.with;
    EXPECT_EQ(sql.substr(static_cast<size_t>(diagnostic.range.begin),
                         static_cast<size_t>(diagnostic.range.end - diagnostic.range.begin)),
              error.pointed_at);
  }
}

TEST(OptionsTest, StrangeOptionListsAllNames) {
  const auto options = BindAnswer("weather = 1");
  ASSERT_FALSE(options.ok());
  EXPECT_TRUE(options.diagnostic().hint.starts_with("It takes k, mode, rank_fusion"));
}

TEST(OptionsTest, DescriptionHasARowForEachOption) {
  const ResultSet described = DescribeOptions(OptionTable::kSearch);
  ASSERT_EQ(described.rows.size(), OptionsOf(OptionTable::kSearch).size());
  EXPECT_EQ(described.rows[0][0].AsString(), "mode");
  EXPECT_EQ(described.rows[0][1].AsString(), "'hybrid', 'vector' or 'text'");
}

}  // namespace
}  // namespace intarsia::query
