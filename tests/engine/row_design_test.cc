#include "engine/fusion/row_design.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fusion/propagation.h"
#include "kernels/condition_covariance.h"

namespace intarsia::engine {
namespace {

std::vector<int32_t> Range(int32_t begin, int32_t end) {
  std::vector<int32_t> positions(static_cast<size_t>(end - begin));
  std::iota(positions.begin(), positions.end(), begin);
  return positions;
}

std::vector<int32_t> Design(const std::vector<int32_t>& candidates,
                            const std::vector<int32_t>& chunk_begins,
                            const std::vector<float>& weights, int64_t budget) {
  ThreadPool pool(3);
  return *DesignRows({.candidates = candidates,
                      .chunk_begins = chunk_begins,
                      .weights = weights,
                      .taken = {},
                      .budget = budget,
                      .pool = &pool});
}

// Sum over tokens of weight * variance given rows of one chunk, by definition.
double WeightedVariance(int64_t size, const std::vector<float>& weights,
                        const std::vector<int32_t>& rows) {
  const std::vector<double> kernel = TabulateKernel(kKeyKernel, size);
  std::vector<float> covariance;
  for (int64_t u = 0; u < size; ++u) {
    for (int64_t t = 0; t < size; ++t) {
      covariance.push_back(static_cast<float>(kernel[static_cast<size_t>(std::abs(t - u))]));
    }
  }
  std::vector<float> sums(static_cast<size_t>(size));
  std::vector<float> workspace(static_cast<size_t>(2 * size));
  for (const int32_t row : rows) {
    EXPECT_TRUE(
        kernels::ConditionCovarianceReference({.covariance = covariance.data(),
                                               .size = size,
                                               .stride = size,
                                               .pivot = row,
                                               .noise = static_cast<float>(kKeyKernel.noise),
                                               .weights = weights.data(),
                                               .square_sums = sums.data(),
                                               .workspace = workspace.data()})
            .ok());
  }
  double sum = 0.0;
  for (int64_t t = 0; t < size; ++t) {
    if (std::ranges::binary_search(rows, static_cast<int32_t>(t))) continue;
    sum += weights[static_cast<size_t>(t)] * covariance[static_cast<size_t>(t * size + t)];
  }
  return sum;
}

std::vector<float> ExponentialWeights(uint32_t seed, size_t size) {
  std::mt19937 generator(seed);
  std::exponential_distribution<float> exponential;
  std::vector<float> weights(size);
  for (float& weight : weights) weight = exponential(generator);
  return weights;
}

TEST(RowDesignTest, ReturnsTheBudgetOfDistinctCandidatesInOrder) {
  const std::vector<int32_t> candidates = Range(10, 200);
  std::mt19937 generator(3);
  std::uniform_real_distribution<float> uniform;
  std::vector<float> weights(200);
  for (float& weight : weights) weight = uniform(generator);
  for (const int64_t budget : {0, 1, 2, 19, 95, 189, 190}) {
    const std::vector<int32_t> rows = Design(candidates, {10, 60, 130}, weights, budget);
    ASSERT_EQ(std::ssize(rows), budget);
    EXPECT_TRUE(std::ranges::is_sorted(rows));
    EXPECT_EQ(std::ranges::adjacent_find(rows), rows.end());
    EXPECT_TRUE(std::ranges::includes(candidates, rows));
  }
}

TEST(RowDesignTest, LeavesLessVarianceThanTheBestWeightsOrEqualSteps) {
  std::vector<float> weights = ExponentialWeights(5, 300);
  // Where the question looks lies together.
  float level = 0.0f;
  for (float& weight : weights) weight = level = 0.8f * level + weight;
  for (const int32_t budget : {6, 15, 45}) {
    const std::vector<int32_t> designed = Design(Range(0, 300), {0}, weights, budget);
    std::vector<int32_t> best = Range(0, 300);
    std::ranges::sort(best, std::greater<>(),
                      [&](int32_t row) { return weights[static_cast<size_t>(row)]; });
    best.resize(static_cast<size_t>(budget));
    std::ranges::sort(best);
    std::vector<int32_t> even;
    for (int32_t i = 0; i < budget; ++i) even.push_back(i * 300 / budget);
    const double left = WeightedVariance(300, weights, designed);
    EXPECT_LT(left, 0.97 * WeightedVariance(300, weights, best)) << budget;
    EXPECT_LT(left, WeightedVariance(300, weights, even)) << budget;
  }
}

TEST(RowDesignTest, WhatIsTakenIsPartOfTheDesignAndNotPickedAgain) {
  const std::vector<float> weights = ExponentialWeights(11, 150);
  const std::vector<int32_t> candidates = Range(0, 150);
  ThreadPool pool(2);
  RowDesignInput input = {.candidates = candidates,
                          .chunk_begins = {},
                          .weights = weights,
                          .taken = {},
                          .budget = 7,
                          .pool = &pool};
  const std::vector<int32_t> first = *DesignRows(input);
  // The best rows beside the first ones are the sequence's next ones.
  input.taken = first;
  input.budget = 13;
  std::vector<int32_t> all = *DesignRows(input);
  all.insert(all.end(), first.begin(), first.end());
  std::ranges::sort(all);
  EXPECT_EQ(all, Design(candidates, {}, weights, 20));
  // Nothing is left but what is not taken.
  input.budget = 143;
  all = *DesignRows(input);
  EXPECT_EQ(std::ssize(all), 143);
  for (const int32_t row : all) EXPECT_FALSE(std::ranges::binary_search(first, row));
  input.budget = 144;
  EXPECT_EQ(DesignRows(input).status().code(), StatusCode::kInvalidArgument);
}

TEST(RowDesignTest, AHeavyTokenIsARowAndItsNeighboursAreNot) {
  std::vector<float> weights(100, 0.01f);
  weights[40] = 50.0f;
  const std::vector<int32_t> rows = Design(Range(0, 100), {0}, weights, 3);
  EXPECT_TRUE(std::ranges::binary_search(rows, 40));
  EXPECT_FALSE(std::ranges::binary_search(rows, 39));
  EXPECT_FALSE(std::ranges::binary_search(rows, 41));
}

TEST(RowDesignTest, RowsGoToTheChunkThatIsLookedAt) {
  std::vector<float> weights(200, 0.0f);
  std::fill(weights.begin() + 100, weights.end(), 1.0f);
  const std::vector<int32_t> rows = Design(Range(0, 200), {0, 100}, weights, 20);
  const auto in_second = std::ranges::count_if(rows, [](int32_t row) { return row >= 100; });
  EXPECT_GT(in_second, 12);
}

TEST(RowDesignTest, WithoutAnyWeightRowsAreSpreadEvenly) {
  const std::vector<int32_t> rows = Design(Range(0, 240), {0}, std::vector<float>(240), 8);
  for (size_t i = 1; i < rows.size(); ++i) EXPECT_GT(rows[i] - rows[i - 1], 12);
}

TEST(RowDesignTest, LongChunksAreCut) {
  const auto size = static_cast<int32_t>(2 * kDesignTokensMax + 10);
  const std::vector<float> weights(static_cast<size_t>(size), 1.0f);
  EXPECT_EQ(std::ssize(Design(Range(0, size), {0}, weights, 12)), 12);
}

TEST(RowDesignTest, TheNumberOfThreadsChangesNothing) {
  const std::vector<float> weights = ExponentialWeights(9, 400);
  const std::vector<int32_t> candidates = Range(0, 400);
  const std::vector<int32_t> begins = {0, 90, 250};
  ThreadPool one(1);
  const auto rows = DesignRows({.candidates = candidates,
                                .chunk_begins = begins,
                                .weights = weights,
                                .taken = {},
                                .budget = 60,
                                .pool = &one});
  EXPECT_EQ(*rows, Design(candidates, begins, weights, 60));
}

TEST(RowDesignTest, BadInputIsRefused) {
  ThreadPool pool(1);
  std::vector<float> weights(20, 1.0f);
  const std::vector<int32_t> candidates = Range(0, 20);
  RowDesignInput input = {.candidates = candidates,
                          .chunk_begins = {},
                          .weights = weights,
                          .taken = {},
                          .budget = 21,
                          .pool = &pool};
  EXPECT_EQ(DesignRows(input).status().code(), StatusCode::kInvalidArgument);
  input.budget = 3;
  for (const float bad :
       {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    weights[7] = bad;
    EXPECT_EQ(DesignRows(input).status().code(), StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace intarsia::engine
