// The definition that the other forms are compared with, tested by itself, because it is the one
// place that says what sampling means, and the CPU form beside it.
#include "kernels/sample_rows.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::kernels {
namespace {

int32_t Sample(const std::vector<float>& logits, const SampleRule& rule, int32_t step) {
  int32_t token = -2;
  const Status status = SampleRowsReference({.logits = logits.data(),
                                             .stride = static_cast<int64_t>(logits.size()),
                                             .rules = &rule,
                                             .steps = &step,
                                             .tokens = &token,
                                             .num_rows = 1,
                                             .vocab_size = static_cast<int64_t>(logits.size())});
  EXPECT_TRUE(status.ok()) << status;
  return token;
}

std::vector<int> Counts(const std::vector<float>& logits, SampleRule rule, int num_draws) {
  std::vector<int> counts(logits.size());
  for (int step = 0; step < num_draws; ++step) {
    rule.seed = static_cast<uint64_t>(step) % 7;
    ++counts[static_cast<size_t>(Sample(logits, rule, step))];
  }
  return counts;
}

TEST(SampleRowsTest, GreedyTakesTheFirstOfTheLargest) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Sample({nan, -3.0F, 2.0F, 2.0F, nan}, {}, 0), 2);
  EXPECT_EQ(Sample({-5.0F, -INFINITY, -4.0F}, {}, 0), 2);
  EXPECT_EQ(Sample({1.0F, INFINITY, INFINITY}, {.temperature = 1.0F}, 0), 1);
  EXPECT_EQ(Sample({nan, -INFINITY}, {.temperature = 1.0F}, 0), -1);
}

TEST(SampleRowsTest, DrawsFollowTheProbabilities) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F), -INFINITY};
  const std::vector<int> counts = Counts(logits, {.temperature = 1.0F}, 20'000);
  EXPECT_NEAR(counts[0], 10'000, 300);
  EXPECT_NEAR(counts[1], 6'000, 300);
  EXPECT_NEAR(counts[2], 4'000, 300);
  EXPECT_EQ(counts[3], 0);
  // Half the temperature squares the probabilities: 25 : 9 : 4.
  const std::vector<int> sharper = Counts(logits, {.temperature = 0.5F}, 19'000);
  EXPECT_NEAR(sharper[0], 12'500, 300);
  EXPECT_NEAR(sharper[1], 4'500, 300);
}

TEST(SampleRowsTest, TheCutsKeepTheMostLikelyTokens) {
  const std::vector<float> logits = {0.0F, 1.0F, 1.0F, 0.5F, 1.0F};
  const std::vector<int> top_two = Counts(logits, {.temperature = 2.0F, .top_k = 2}, 500);
  EXPECT_EQ(top_two[1] + top_two[2], 500);
  EXPECT_GT(top_two[2], 100);
  const std::vector<float> skewed = {std::log(0.1F), std::log(0.6F), std::log(0.3F)};
  const std::vector<int> most = Counts(skewed, {.temperature = 1.0F, .top_p = 0.5F}, 200);
  EXPECT_EQ(most[1], 200);
  const std::vector<int> two = Counts(skewed, {.temperature = 1.0F, .top_p = 0.8F}, 2'000);
  EXPECT_EQ(two[0], 0);
  EXPECT_NEAR(two[1], 1'333, 120);
}

// Draws with both forms and expects the same tokens.
void ExpectFormsAgree(const std::vector<float>& logits, int64_t stride, int64_t vocab_size) {
  const auto num_rows = static_cast<int64_t>(logits.size()) / stride;
  for (const SampleRule& rule :
       {SampleRule{}, SampleRule{.temperature = 1.0F}, SampleRule{.temperature = 10.0F, .seed = 9},
        SampleRule{.temperature = 0.05F, .seed = ~uint64_t{0}},
        SampleRule{.temperature = 1.0F, .top_k = 1}, SampleRule{.temperature = 2.0F, .top_k = 40},
        SampleRule{.temperature = 1.0F, .top_k = 1 << 30},
        SampleRule{.temperature = 1.0F, .top_p = 0.9F},
        SampleRule{.temperature = 5.0F, .top_p = 0.999999F},
        SampleRule{.temperature = 1.0F, .top_p = 1e-9F},
        SampleRule{.temperature = 3.0F, .top_k = 100, .top_p = 0.5F, .seed = 3}}) {
    const std::vector<SampleRule> rules(static_cast<size_t>(num_rows), rule);
    for (int32_t step = 0; step < 5; ++step) {
      std::vector<int32_t> steps(static_cast<size_t>(num_rows), step);
      std::vector<int32_t> expected(steps.size(), -2);
      SampleRowsParams params = {.logits = logits.data(),
                                 .stride = stride,
                                 .rules = rules.data(),
                                 .steps = steps.data(),
                                 .tokens = expected.data(),
                                 .num_rows = num_rows,
                                 .vocab_size = vocab_size};
      ASSERT_TRUE(SampleRowsReference(params).ok());
      std::vector<int32_t> tokens(steps.size(), -2);
      params.tokens = tokens.data();
      params.next_steps = steps.data();
      ASSERT_TRUE(SampleRows(params).ok());
      EXPECT_EQ(tokens, expected) << "temperature=" << rule.temperature << " top_k=" << rule.top_k
                                  << " top_p=" << rule.top_p << " step=" << step;
      EXPECT_EQ(steps, std::vector<int32_t>(steps.size(), step + 1));
    }
  }
}

TEST(SampleRowsTest, TheCpuDrawsTheTokensOfTheDefinition) {
  std::mt19937 random(5);
  for (const int64_t vocab_size : {1, 2, 17, 1'023, 1'024, 1'025, 5'000}) {
    SCOPED_TRACE(vocab_size);
    const int64_t stride = vocab_size + 3;
    std::vector<float> logits(static_cast<size_t>(3 * stride));
    for (float& logit : logits) logit = static_cast<float>(random() % 2'000) / 100.0F;
    // Few distinct numbers, so that there are equal ones, and some that are none.
    for (int64_t i = stride; i < 2 * stride; ++i) {
      const auto value = random() % 9;
      logits[static_cast<size_t>(i)] = value == 0   ? std::numeric_limits<float>::quiet_NaN()
                                       : value == 1 ? -INFINITY
                                                    : static_cast<float>(value);
    }
    for (int64_t i = 2 * stride; i < 3 * stride; ++i) logits[static_cast<size_t>(i)] = -INFINITY;
    ExpectFormsAgree(logits, stride, vocab_size);
  }
}

TEST(SampleRowsTest, BadSizesAndPointersAreRefused) {
  const float logit = 0.0F;
  const SampleRule rule;
  const int32_t step = 0;
  int32_t token = 0;
  const SampleRowsParams good = {.logits = &logit,
                                 .stride = 1,
                                 .rules = &rule,
                                 .steps = &step,
                                 .tokens = &token,
                                 .num_rows = 1,
                                 .vocab_size = 1};
  EXPECT_TRUE(SampleRows(good).ok());
  const auto code = [&good](auto change) {
    SampleRowsParams params = good;
    change(&params);
    return SampleRows(params).code();
  };
  EXPECT_EQ(code([](SampleRowsParams* p) { p->num_rows = 0; }), StatusCode::kOk);
  EXPECT_EQ(code([](SampleRowsParams* p) { p->num_rows = -1; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](SampleRowsParams* p) { p->vocab_size = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](SampleRowsParams* p) { p->stride = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](SampleRowsParams* p) { p->logits = nullptr; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](SampleRowsParams* p) { p->tokens = nullptr; }), StatusCode::kInvalidArgument);
}

TEST(SampleRowsTest, RulesOutOfRangeAreRefused) {
  EXPECT_TRUE(CheckSampleRule({}).ok());
  EXPECT_EQ(CheckSampleRule({.temperature = -1.0F}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.temperature = NAN}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.top_k = -1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.top_p = 0.0F}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
