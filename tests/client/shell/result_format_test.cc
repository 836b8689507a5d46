#include "client/shell/result_format.h"

#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace intarsia::client {
namespace {

using query::ResultSet;
using query::Value;

ResultSet Sample() {
  ResultSet result;
  result.columns = {{"source"}, {"score"}, {"tags"}};
  result.rows.push_back({Value("a,b \"c\""), Value(0.5), Value(Value::List{Value("x")})});
  result.rows.push_back({Value("日本\tx\n\\y"), Value(12), Value()});
  return result;
}

std::string Format(const ResultSet& result, OutputMode mode, int64_t columns_max = 0) {
  FormatOptions options;
  options.mode = mode;
  options.columns_max = columns_max;
  return FormatResult(result, options);
}

TEST(ResultFormatTest, BoxAlignsByColumns) {
  EXPECT_EQ(Format(Sample(), OutputMode::kBox),
            "┌─────────┬───────┬───────┐\n"
            "│ source  │ score │ tags  │\n"
            "├─────────┼───────┼───────┤\n"
            "│ a,b \"c\" │   0.5 │ [\"x\"] │\n"
            "│ 日本 x  │    12 │ NULL  │\n"
            "│ \\y      │       │       │\n"
            "└─────────┴───────┴───────┘\n");
}

TEST(ResultFormatTest, LongCellsAreShownAsTheyAre) {
  const std::string text = "a cell that is longer than what a string keeps inside of itself";
  ResultSet result;
  result.columns = {{"a"}, {"b"}};
  result.rows.push_back({Value(text), Value(text + text)});
  const std::string box = Format(result, OutputMode::kBox);
  EXPECT_NE(box.find("│ " + text + " │ "), std::string::npos) << box;
}

TEST(ResultFormatTest, BoxFitsTheTerminal) {
  ResultSet result;
  result.columns = {{"n"}, {"content"}, {"heading"}};
  result.rows.push_back({Value(1), Value(std::string(300, 'x')), Value("Manual > Set-up > First")});
  for (int64_t columns = 25; columns < 100; columns += 3) {
    const std::string box = Format(result, OutputMode::kBox, columns);
    EXPECT_NE(box.find("│ content "), std::string::npos) << box;  // headings stay whole
    EXPECT_NE(box.find("│ heading "), std::string::npos) << box;
    std::istringstream lines(box);
    int64_t num_lines = 0;
    for (std::string line; std::getline(lines, line); ++num_lines) {
      EXPECT_LE(DisplayWidth(line), columns) << line;
    }
    EXPECT_LE(num_lines, 9);
  }
  EXPECT_TRUE(Format(result, OutputMode::kBox, 24).starts_with("      n = 1\n"));
}

TEST(ResultFormatTest, BoxThatCannotFitIsShownAsLines) {
  ResultSet result;
  for (int i = 0; i < 20; ++i) {
    result.columns.push_back({"column" + std::to_string(i)});
  }
  result.rows.emplace_back(20, Value("a long value"));
  EXPECT_TRUE(Format(result, OutputMode::kBox, 80).starts_with(" column0 = a long value\n"));
}

TEST(ResultFormatTest, OneColumnIsShownWhole) {
  ResultSet result;
  result.columns = {{"plan"}};
  result.rows.push_back({Value("a\n  b\n  c\n  d\n  e\n  f")});
  EXPECT_EQ(Format(result, OutputMode::kBox, 40),
            "┌──────┐\n│ plan │\n├──────┤\n│ a    │\n│   b  │\n│   c  │\n│   d  │\n│   e  │\n"
            "│   f  │\n└──────┘\n");
}

TEST(ResultFormatTest, BoxCountsRowsThatItDoesNotShow) {
  ResultSet result;
  result.columns = {{"n"}};
  for (int i = 0; i < 1503; ++i) result.rows.push_back({Value(i)});
  FormatOptions options;
  options.rows_max = 2;
  EXPECT_EQ(FormatResult(result, options),
            "┌───┐\n│ n │\n├───┤\n│ 0 │\n│ 1 │\n└───┘\n... 1,501 more rows\n");
}

TEST(ResultFormatTest, LineShowsOneValueALine) {
  EXPECT_EQ(Format(Sample(), OutputMode::kLine),
            "source = a,b \"c\"\n score = 0.5\n  tags = [\"x\"]\n\n"
            "source = 日本\tx\n         \\y\n score = 12\n  tags = NULL\n");
}

TEST(ResultFormatTest, CsvQuotesWhatItMust) {
  EXPECT_EQ(Format(Sample(), OutputMode::kCsv),
            "source,score,tags\n\"a,b \"\"c\"\"\",0.5,\"[\"\"x\"\"]\"\n\"日本\tx\n\\y\",12,\n");
  ResultSet empty;
  empty.columns = {{"a"}, {"b"}};
  empty.rows.push_back({Value(""), Value()});
  EXPECT_EQ(Format(empty, OutputMode::kCsv), "a,b\n\"\",\n");
}

TEST(ResultFormatTest, TsvEscapes) {
  EXPECT_EQ(Format(Sample(), OutputMode::kTsv),
            "source\tscore\ttags\na,b \"c\"\t0.5\t[\"x\"]\n日本\\tx\\n\\\\y\t12\t\n");
}

TEST(ResultFormatTest, MarkdownEscapesPipes) {
  ResultSet result;
  result.columns = {{"a|b"}, {"n"}};
  result.rows.push_back({Value("x|y\nz"), Value(1)});
  EXPECT_EQ(Format(result, OutputMode::kMarkdown),
            "| a\\|b | n |\n| --- | ---: |\n| x\\|y z | 1 |\n");
}

TEST(ResultFormatTest, JsonIsOneArrayOnOneLine) {
  EXPECT_EQ(Format(Sample(), OutputMode::kJson),
            "[{\"source\":\"a,b \\\"c\\\"\",\"score\":0.5,\"tags\":[\"x\"]},"
            "{\"source\":\"日本\\tx\\n\\\\y\",\"score\":12,\"tags\":null}]\n");
  EXPECT_EQ(Format(ResultSet{}, OutputMode::kJson), "[]\n");
}

TEST(ResultFormatTest, JsonlIsOneObjectALine) {
  ResultSet result;
  result.columns = {{"a"}};
  result.rows = {{Value(1)}, {Value(Value::Object{{"b", Value("c")}})}};
  EXPECT_EQ(Format(result, OutputMode::kJsonl), "{\"a\":1}\n{\"a\":{\"b\":\"c\"}}\n");
}

TEST(ResultFormatTest, WithoutColumnsThereIsNothingToShow) {
  for (const OutputMode mode : {OutputMode::kBox, OutputMode::kLine, OutputMode::kCsv,
                                OutputMode::kTsv, OutputMode::kMarkdown, OutputMode::kJsonl}) {
    EXPECT_EQ(Format(ResultSet{}, mode), "");
  }
}

TEST(ResultFormatTest, ColumnsWithoutRowsKeepTheirHeader) {
  ResultSet result;
  result.columns = {{"a"}};
  EXPECT_EQ(Format(result, OutputMode::kBox), "┌───┐\n│ a │\n├───┤\n└───┘\n");
  EXPECT_EQ(Format(result, OutputMode::kCsv), "a\n");
  EXPECT_EQ(Format(result, OutputMode::kJson), "[]\n");
}

TEST(ResultFormatTest, ModesHaveNames) {
  EXPECT_EQ(OutputModeNamed("JSON"), OutputMode::kJson);
  EXPECT_EQ(OutputModeNamed("xml"), std::nullopt);
  EXPECT_EQ(OutputModeName(OutputMode::kMarkdown), "markdown");
}

}  // namespace
}  // namespace intarsia::client
