#include "query/filter.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "query/parser.h"

namespace intarsia::query {
namespace {

const CollectionSchema& Schema() {
  static const CollectionSchema schema("docs", {{"lang", {BaseType::kVarchar, false}},
                                                {"year", {BaseType::kInt, false}},
                                                {"score", {BaseType::kDouble, false}},
                                                {"open", {BaseType::kBoolean, false}},
                                                {"at", {BaseType::kTimestamp, false}},
                                                {"acl", {BaseType::kVarchar, true}},
                                                {"years", {BaseType::kInt, true}}});
  return schema;
}

// A row of nulls with the declared columns set.
Row RowOf(std::vector<Value> declared) {
  Row row(static_cast<size_t>(Schema().num_implicit()));
  row.insert(row.end(), declared.begin(), declared.end());
  row.resize(Schema().columns().size());
  return row;
}

Row Sample() {
  return RowOf({Value("en"), Value(2023), Value(0.5), Value(true),
                Value(*ParseTimestamp("2024-06-01")),
                Value(Value::List{Value("staff"), Value("hr")}), Value(Value::List{})});
}

Outcome<Filter> Bind(const std::string& where, std::string* sql = nullptr) {
  const std::string text = "DELETE FROM docs WHERE " + where;
  if (sql != nullptr) *sql = text;
  INTARSIA_ASSIGN_OR_FAIL(const Statement statement, ParseStatement(text));
  return Filter::Bind(std::get<Delete>(statement).where, Schema());
}

Truth Ask(const std::string& where, const Row& row) {
  const Outcome<Filter> filter = Bind(where);
  EXPECT_TRUE(filter.ok()) << where << ": " << filter.diagnostic().message;
  return filter.ok() ? filter->Evaluate(row) : Truth::kUnknown;
}

void ExpectAll(Truth truth, const Row& row, const std::vector<std::string>& predicates) {
  for (const std::string& where : predicates) EXPECT_EQ(Ask(where, row), truth) << where;
}

TEST(FilterTest, TrueTestsMatch) {
  ExpectAll(Truth::kTrue, Sample(),
            {"lang = 'en'",
             "lang != 'de'",
             "lang < 'eo'",
             "LANG >= 'en'",
             "year = 2023",
             "year > 2022.5",
             "2022 < year",
             "year BETWEEN 2023 AND 2023",
             "score = 0.5",
             "score < 1",
             "open = TRUE",
             "open != FALSE",
             "at > '2024-01-01'",
             "at = TIMESTAMP '2024-06-01'",
             "at <= '2024-06-01T02:00+02:00'",
             "lang IN ('de', 'en')",
             "year IN (1, 2023.0)",
             "lang NOT IN ('de', 'fr')",
             "lang LIKE 'e%'",
             "lang NOT LIKE 'd_'",
             "acl CONTAINS 'hr'",
             "lang CONTAINS 'n'",
             "acl NOT CONTAINS 'root'",
             "years IS EMPTY",
             "acl IS NOT EMPTY",
             "lang IS NOT NULL",
             "content IS NULL",
             "NOT lang = 'de'",
             "lang = 'de' OR year = 2023",
             "lang = 'en' AND (year = 1 OR open = true)"});
}

TEST(FilterTest, FalseTestsDoNotMatch) {
  ExpectAll(Truth::kFalse, Sample(),
            {"lang = 'EN'", "year != 2023", "year < 2022.5", "score > 0.5", "open = FALSE",
             "at < '2024-01-01'", "lang NOT IN ('en')", "year IN (1, 2)", "lang LIKE 'e'",
             "acl CONTAINS 'h'", "years CONTAINS 3", "acl IS EMPTY", "lang IS NULL",
             "NOT (lang = 'en' OR year = 1)"});
}

TEST(FilterTest, NullMakesATestUnknown) {
  const Row row = RowOf({});
  ExpectAll(Truth::kUnknown, row,
            {"lang = 'en'", "lang != 'en'", "NOT lang = 'en'", "lang IN ('en')",
             "lang NOT IN ('en')", "lang LIKE '%'", "acl CONTAINS 'x'", "acl IS EMPTY",
             "lang = 'en' OR year = 1", "lang = 'en' AND year = 1"});
  ExpectAll(Truth::kTrue, row, {"lang IS NULL", "lang = 'en' OR year IS NULL"});
  ExpectAll(Truth::kFalse, row, {"lang IS NOT NULL", "lang = 'en' AND year IS NOT NULL"});
  EXPECT_FALSE(Bind("lang = 'en'")->Matches(row));
}

TEST(FilterTest, NullInAListIsUnknownUnlessAnotherMatches) {
  ExpectAll(Truth::kTrue, Sample(), {"lang IN ('en', NULL)"});
  ExpectAll(Truth::kUnknown, Sample(), {"lang IN ('de', NULL)", "lang NOT IN ('de', NULL)"});
}

TEST(FilterTest, IntegersAndDoublesCompareByValue) {
  const Row row = RowOf({Value(), Value(int64_t{9007199254740993}), Value(std::nan(""))});
  // 2^53 + 1 is no double; as one it would equal 2^53.
  ExpectAll(Truth::kFalse, row,
            {"year = 9007199254740992.0", "year < 9007199254740992.0", "year > 1e300",
             "year < -1e300", "score = 1.0", "score < 1.0", "score >= 1.0"});
  ExpectAll(Truth::kTrue, row, {"year > 9007199254740992.0", "year < 1e300", "score != 1.0"});
  const Row negative = RowOf({Value(), Value(-2)});
  ExpectAll(Truth::kTrue, negative, {"year < -1.5", "year > -2.5", "year = -2.0"});
}

TEST(FilterTest, ColumnsUsedAreNamedOnce) {
  const Outcome<Filter> filter = Bind("year = 1 OR (lang = 'x' AND year = 2)");
  ASSERT_TRUE(filter.ok());
  const int64_t first = Schema().num_implicit();
  EXPECT_EQ(filter->columns_used(), (std::vector<int64_t>{first, first + 1}));
}

TEST(FilterTest, LikeCountsCodePoints) {
  EXPECT_TRUE(MatchesLike("", ""));
  EXPECT_TRUE(MatchesLike("", "%%"));
  EXPECT_FALSE(MatchesLike("", "_"));
  EXPECT_TRUE(MatchesLike("größe", "gr__e"));
  EXPECT_FALSE(MatchesLike("größe", "gr___e"));
  EXPECT_TRUE(MatchesLike("a/b/c.md", "a/%.md"));
  EXPECT_TRUE(MatchesLike("abab", "%ab"));
  EXPECT_TRUE(MatchesLike("aXbXc", "a%X_"));
  EXPECT_FALSE(MatchesLike("abc", "ab"));
  EXPECT_FALSE(MatchesLike("ab", "abc"));
  EXPECT_TRUE(MatchesLike("日本語", "%本_"));
  EXPECT_TRUE(MatchesLike("50%", "50%"));
}

TEST(FilterTest, HostileLikePatternEndsSoon) {
  const std::string text(20'000, 'a');
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "%a";
  EXPECT_FALSE(MatchesLike(text, pattern + "%b"));
}

TEST(FilterTest, ALikePatternThatWouldTakeForeverIsRefused) {
  EXPECT_TRUE(Bind("content LIKE '" + std::string(1'000, 'a') + "'").ok());
  const Outcome<Filter> filter = Bind("content LIKE '" + std::string(1'001, 'a') + "'");
  ASSERT_FALSE(filter.ok());
  EXPECT_EQ(filter.diagnostic().message, "a pattern of LIKE has at most 1000 characters");
}

struct ErrorCase {
  std::string where;
  std::string_view pointed_at;
  std::string_view message;
  std::string_view hint;
};

TEST(FilterTest, MistakesAreNamedWhereTheyStand) {
  const std::vector<ErrorCase> cases = {
      {"lnag = 'en'", "lnag", "column \"lnag\" not found in collection docs",
       "Did you mean \"lang\"?"},
      {"weather = 1", "weather", "column \"weather\" not found in collection docs",
       "DESCRIBE docs lists the columns."},
      {"lang = 3", "3", "column \"lang\" is VARCHAR, the value is an integer", ""},
      {"year = '3'", "'3'", "column \"year\" is INT, the value is a string", ""},
      {"year IN (1, 'x')", "'x'", "column \"year\" is INT, the value is a string", ""},
      {"at > 'soon'", "'soon'", "column \"at\" is TIMESTAMP, the value is a string",
       "Timestamps are written '2025-01-31' or '2025-01-31T12:00:00Z'."},
      {"open > TRUE", ">", "column \"open\" is BOOLEAN, which has no order", "Use = or !=."},
      {"lang = NULL", "NULL", "a comparison with NULL is never true", "Use IS NULL."},
      {"lang != NULL", "NULL", "a comparison with NULL is never true", "Use IS NOT NULL."},
      {"acl = 'x'", "acl", "column \"acl\" is VARCHAR[]: a comparison takes no list",
       "Use CONTAINS to ask for a member."},
      {"acl IN ('x')", "acl", "column \"acl\" is VARCHAR[]: IN takes no list",
       "Use CONTAINS to ask for a member."},
      {"year LIKE '2%'", "year", "LIKE needs a VARCHAR column, \"year\" is INT", ""},
      {"lang LIKE 3", "3", "LIKE needs a pattern in single quotes", ""},
      {"year CONTAINS 3", "year", "CONTAINS needs an array or VARCHAR column, \"year\" is INT", ""},
      {"acl CONTAINS 3", "3", "column \"acl\" is VARCHAR, the value is an integer", ""},
      {"acl CONTAINS NULL", "NULL", "CONTAINS NULL is never true", ""},
      {"year IS EMPTY", "year", "IS EMPTY needs an array or VARCHAR column, \"year\" is INT",
       "Use IS NULL."},
      {"lang = ['a']", "['a']", "column \"lang\" is VARCHAR, the value is a list", ""},
  };
  for (const ErrorCase& error : cases) {
    std::string sql;
    const Outcome<Filter> filter = Bind(error.where, &sql);
    ASSERT_FALSE(filter.ok()) << error.where;
    const Diagnostic& diagnostic = filter.diagnostic();
    EXPECT_EQ(diagnostic.error_class, ErrorClass::kBinder);
    EXPECT_EQ(diagnostic.message, error.message);
    EXPECT_EQ(diagnostic.hint, error.hint) << error.where;
    EXPECT_EQ(sql.substr(static_cast<size_t>(diagnostic.range.begin),
                         static_cast<size_t>(diagnostic.range.end - diagnostic.range.begin)),
              error.pointed_at);
  }
}

}  // namespace
}  // namespace intarsia::query
