#include "query/diagnostic.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/result.h"

namespace intarsia::query {
namespace {

std::string Render(std::string_view sql, int64_t begin, int64_t columns_max = 100) {
  return RenderDiagnostic(BinderError({begin, begin + 1}, "fact", ""), sql, columns_max);
}

TEST(DiagnosticTest, RendersClassFactPlaceAndHint) {
  const Diagnostic diagnostic = BinderError(
      {7, 12}, "column \"sorce\" not found in collection demo", "Did you mean \"source\"?");
  EXPECT_EQ(RenderDiagnostic(diagnostic, "SELECT sorce FROM demo;"),
            "Binder error: column \"sorce\" not found in collection demo\n"
            "LINE 1: SELECT sorce FROM demo;\n"
            "               ^\n"
            "Did you mean \"source\"?\n");
}

TEST(DiagnosticTest, ShowsTheLineOfThePlaceOnly) {
  EXPECT_EQ(Render("SELECT *\n  FROM x\nWHERE", 11),
            "Binder error: fact\nLINE 2:   FROM x\n          ^\n");
}

TEST(DiagnosticTest, CaretStandsBelowWideAndCombiningCharacters) {
  // Two wide characters, then e with a combining accent: 4 + 1 columns.
  const std::string sql = "日本e\xCC\x81 x";
  EXPECT_EQ(Render(sql, 10), "Binder error: fact\nLINE 1: " + sql + "\n              ^\n");
}

TEST(DiagnosticTest, TabsAndControlCharactersAreOneBlank) {
  EXPECT_EQ(Render("\ta\x1B[2Jb x", 7),
            "Binder error: fact\nLINE 1:  a [2Jb x\n               ^\n");
}

TEST(DiagnosticTest, PlaceAtTheEndPointsBehindTheText) {
  EXPECT_EQ(Render("SHOW", 4), "Binder error: fact\nLINE 1: SHOW\n            ^\n");
  EXPECT_EQ(Render("SHOW\n", 5), "Binder error: fact\nLINE 2: \n        ^\n");
  EXPECT_EQ(Render("SHOW", 400), "Binder error: fact\nLINE 1: SHOW\n            ^\n");
}

TEST(DiagnosticTest, LongLinesAreCutAroundTheCaret) {
  const std::string sql = std::string(500, 'a') + "B" + std::string(500, 'c');
  const std::string rendered = Render(sql, 500, 60);
  EXPECT_EQ(rendered, "Binder error: fact\nLINE 1: ..." + std::string(35, 'a') + "B" +
                          std::string(10, 'c') + "...\n" + std::string(46, ' ') + "^\n");
}

TEST(DiagnosticTest, LongLineIsNotCutWhereItFits) {
  const std::string sql = "B" + std::string(500, 'c');
  EXPECT_EQ(Render(sql, 0, 40),
            "Binder error: fact\nLINE 1: B" + std::string(25, 'c') + "...\n        ^\n");
  const std::string tail = std::string(500, 'a') + "B";
  EXPECT_EQ(Render(tail, 500, 40), "Binder error: fact\nLINE 1: ..." + std::string(25, 'a') +
                                       "B\n" + std::string(36, ' ') + "^\n");
}

TEST(DiagnosticTest, IllFormedTextIsShownRepaired) {
  EXPECT_EQ(Render("a\xFFz", 1), "Binder error: fact\nLINE 1: a\xEF\xBF\xBDz\n         ^\n");
}

TEST(DiagnosticTest, WithoutPlaceOrTextThereIsNoLine) {
  EXPECT_EQ(RenderDiagnostic(BinderError({}, "fact", "Hint."), "SHOW"),
            "Binder error: fact\nHint.\n");
  EXPECT_EQ(Render("", 0), "Binder error: fact\n");
}

TEST(DiagnosticTest, CancellationIsSaidOnce) {
  EXPECT_EQ(RenderDiagnostic(FromStatus(Status(StatusCode::kCancelled, "cancelled")), ""),
            "Cancelled\n");
}

TEST(DiagnosticTest, PositionCountsCodePointsFromOne) {
  const std::string sql = "a\nñb";
  EXPECT_EQ(PositionAt(sql, 0).column, 1);
  EXPECT_EQ(PositionAt(sql, 1).column, 2);
  EXPECT_EQ(PositionAt(sql, 2).line, 2);
  EXPECT_EQ(PositionAt(sql, 4).column, 2);
  EXPECT_EQ(PositionAt(sql, 99).column, 3);
  EXPECT_EQ(PositionAt("", 3).line, 1);
}

TEST(DiagnosticTest, ShiftAndLocateMoveAPlaceIntoAScript) {
  const std::string script = "SHOW MODELS;\nSHOW X;";
  Diagnostic diagnostic = BinderError({5, 6}, "fact");
  Shift(13, &diagnostic);
  Locate(script, &diagnostic);
  EXPECT_EQ(diagnostic.position.line, 2);
  EXPECT_EQ(diagnostic.position.column, 6);
  Diagnostic without_place = BinderError({}, "fact");
  Shift(13, &without_place);
  EXPECT_FALSE(without_place.has_place());
}

TEST(DiagnosticTest, EveryStatusCodeHasAClass) {
  const std::vector<std::pair<StatusCode, std::string_view>> names = {
      {StatusCode::kInvalidArgument, "Input error"},
      {StatusCode::kNotFound, "Catalog error"},
      {StatusCode::kAlreadyExists, "Catalog error"},
      {StatusCode::kCorruption, "Corruption error"},
      {StatusCode::kIo, "I/O error"},
      {StatusCode::kResourceExhausted, "Resource error"},
      {StatusCode::kUnavailable, "Unavailable"},
      {StatusCode::kDeadlineExceeded, "Timeout"},
      {StatusCode::kCancelled, "Cancelled"},
      {StatusCode::kUnsupported, "Unsupported"},
      {StatusCode::kInternal, "Internal error"}};
  for (const auto& [code, name] : names) {
    const Diagnostic diagnostic = FromStatus(Status(code, "cause"));
    EXPECT_EQ(ErrorClassName(diagnostic.error_class), name);
    EXPECT_EQ(diagnostic.message, "cause");
  }
}

Outcome<int> Half(int number) {
  if (number % 2 != 0) return InputError({}, "odd");
  return number / 2;
}

Outcome<int> Quarter(int number) {
  INTARSIA_ASSIGN_OR_FAIL(const int half, Half(number));
  return Half(half);
}

Outcome<int> FromResult(const Result<int>& result) {
  INTARSIA_ASSIGN_OR_RETURN(const int value, result);
  return value;
}

TEST(DiagnosticTest, OutcomeCarriesAValueOrADiagnostic) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).diagnostic().message, "odd");
  EXPECT_EQ(*FromResult(3), 3);
  EXPECT_EQ(FromResult(Status(StatusCode::kIo, "disk")).diagnostic().error_class, ErrorClass::kIo);
}

TEST(DiagnosticTest, OutcomeMovesWhatCannotBeCopied) {
  Outcome<std::unique_ptr<int>> outcome = std::make_unique<int>(7);
  ASSERT_TRUE(outcome.ok());
  const std::unique_ptr<int> value = *std::move(outcome);
  EXPECT_EQ(*value, 7);
}

}  // namespace
}  // namespace intarsia::query
