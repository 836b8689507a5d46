// The manual says what the program does: its option tables are those of the program, and its
// examples are statements. Test programs run in the root of the tree.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"
#include "query/lexer.h"
#include "query/options.h"
#include "query/parser.h"
#include "query/schema.h"

namespace intarsia::query {
namespace {

constexpr std::string_view kManual = "docs/manual";

std::string ReadPage(const std::string& name) {
  auto page = FileSystem::Local()->ReadAll(std::string(kManual) + "/" + name, 1 << 20);
  EXPECT_TRUE(page.ok()) << page.status().ToString();
  return page.ok() ? *std::move(page) : std::string();
}

// What stands between "```sql" and "```".
std::vector<std::string> SqlExamples(std::string_view page) {
  constexpr std::string_view kOpen = "\n```sql\n";
  constexpr std::string_view kClose = "\n```\n";
  std::vector<std::string> examples;
  for (size_t at = page.find(kOpen); at != std::string_view::npos; at = page.find(kOpen, at)) {
    at += kOpen.size();
    examples.emplace_back(page.substr(at, page.find(kClose, at) - at));
  }
  return examples;
}

TEST(ManualTest, OptionTablesAreThoseOfTheProgram) {
  const std::string page = ReadPage("sql.md");
  for (const OptionTable table :
       {OptionTable::kCreateModel, OptionTable::kCreateCollection, OptionTable::kAlterCollection,
        OptionTable::kCopy, OptionTable::kSearch, OptionTable::kAnswer, OptionTable::kBackup,
        OptionTable::kDelete, OptionTable::kSettings}) {
    std::string rows = "|---|---|---|---|\n";
    for (const OptionSpec& spec : OptionsOf(table)) {
      rows += "| `" + std::string(spec.name) + "` | " + DescribeValues(spec) + " | " +
              std::string(spec.default_text) + " | " + std::string(spec.help) + " |\n";
    }
    EXPECT_NE(page.find(rows + "\n"), std::string::npos) << "the manual lacks this table:\n"
                                                         << rows;
  }
}

TEST(ManualTest, ImplicitColumnsAreThoseOfTheProgram) {
  std::string rows = "|---|---|---|\n";
  for (const ImplicitColumn& column : ImplicitColumns()) {
    rows += "| `" + std::string(column.name) + "` | " + ColumnTypeName(column.type) + " | " +
            std::string(column.help) + " |\n";
  }
  EXPECT_NE(ReadPage("sql.md").find(rows + "\n"), std::string::npos) << rows;
}

TEST(ManualTest, ReservedWordsAreThoseOfTheProgram) {
  const std::string page = ReadPage("sql.md");
  const size_t begin = page.find("The reserved words are ");
  ASSERT_NE(begin, std::string::npos);
  Lexer lexer(page,
              static_cast<int64_t>(begin + std::string_view("The reserved words are ").size()));
  for (Token token = lexer.Next(); token.kind != TokenKind::kDot; token = lexer.Next()) {
    ASSERT_NE(token.kind, TokenKind::kEnd);
    const std::string_view word = TokenText(page, token);
    if (token.kind != TokenKind::kWord || word == "and") continue;
    EXPECT_TRUE(IsReserved(word)) << word;
  }
}

TEST(ManualTest, EveryExampleIsAStatement) {
  const auto entries = FileSystem::Local()->List(std::string(kManual));
  ASSERT_TRUE(entries.ok()) << entries.status().ToString();
  size_t num_examples = 0;
  for (const DirectoryEntry& entry : *entries) {
    for (const std::string& example : SqlExamples(ReadPage(entry.name))) {
      const auto statements = ParseScript(example);
      EXPECT_TRUE(statements.ok()) << entry.name << "\n"
                                   << RenderDiagnostic(statements.diagnostic(), example);
      ++num_examples;
    }
  }
  EXPECT_GT(num_examples, 15U);
}

}  // namespace
}  // namespace intarsia::query
