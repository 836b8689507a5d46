#include "client/shell/answer_view.h"

#include <string>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

using query::ResultSet;
using query::Value;

ResultSet Sample() {
  const Value citation(Value::Object{{"n", Value(1)},
                                     {"source", Value("policies/refunds.md")},
                                     {"byte_start", Value(1043)},
                                     {"byte_end", Value(1120)},
                                     {"char_start", Value(1041)},
                                     {"char_end", Value(1118)},
                                     {"quote", Value("within 30 days\nof delivery")}});
  ResultSet result;
  result.columns = {{"answer"}, {"citations"}, {"usage"}, {"timing"}};
  result.rows.push_back(
      {Value("Thirty days [1]."), Value(Value::List{citation}),
       Value(Value::Object{{"prompt_tokens", Value(1812)},
                           {"reused_tokens", Value(1700)},
                           {"recomputed_tokens", Value(91)},
                           {"fresh_tokens", Value(21)},
                           {"generated_tokens", Value(61)}}),
       Value(Value::Object{
           {"retrieve_ms", Value(6.2)}, {"ttft_ms", Value(180.0)}, {"total_ms", Value(1400)}})});
  return result;
}

TEST(AnswerViewTest, ShowsAnswerCitationsAndFigures) {
  EXPECT_EQ(FormatAnswer(Sample(), AnswerText::kShow, 0),
            "Thirty days [1].\n\n"
            "[1] policies/refunds.md  bytes 1043-1120\n"
            "    \"within 30 days of delivery\"\n"
            "retrieval 6 ms · first token 180 ms · total 1.4 s · 61 tokens · "
            "prompt 1,812: 1,700 reused, 91 recomputed, 21 new\n");
}

TEST(AnswerViewTest, LinesFitTheTerminal) {
  EXPECT_EQ(FormatAnswer(Sample(), AnswerText::kShow, 24),
            "Thirty days [1].\n\n"
            "[1] policies/refunds.md…\n"
            "    \"within 30 days of\n"
            "    delivery\"\n"
            "retrieval 6 ms · first\n"
            "token 180 ms · total 1.4\n"
            "s · 61 tokens · prompt …\n");
}

TEST(AnswerViewTest, StreamedAnswerIsNotRepeated) {
  EXPECT_TRUE(FormatAnswer(Sample(), AnswerText::kAlreadyShown, 40).starts_with("\n[1] policies/"));
}

TEST(AnswerViewTest, MissingPartsAreLeftOut) {
  ResultSet result;
  result.columns = {{"answer"}, {"citations"}};
  result.rows.push_back({Value("No evidence."), Value()});
  ASSERT_TRUE(IsAnswer(result));
  EXPECT_EQ(FormatAnswer(result, AnswerText::kShow, 80), "No evidence.\n");
}

TEST(AnswerViewTest, OtherResultsAreNoAnswers) {
  ResultSet result;
  EXPECT_FALSE(IsAnswer(result));
  result.columns = {{"answer"}, {"citations"}};
  EXPECT_FALSE(IsAnswer(result));
  result.rows.push_back({Value("x"), Value("y")});
  EXPECT_FALSE(IsAnswer(result));
}

}  // namespace
}  // namespace intarsia::client
