// The definition that SampleRowsCuda is compared with, tested by itself, because it is the one
// place that says what sampling means.
#include "kernels/sample_rows.h"

#include <cmath>
#include <cstdint>
#include <limits>
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

TEST(SampleRowsTest, RulesOutOfRangeAreRefused) {
  EXPECT_TRUE(CheckSampleRule({}).ok());
  EXPECT_EQ(CheckSampleRule({.temperature = -1.0F}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.temperature = NAN}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.top_k = -1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckSampleRule({.top_p = 0.0F}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
