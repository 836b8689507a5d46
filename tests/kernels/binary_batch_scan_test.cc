#include "kernels/binary_batch_scan.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

struct Problem {
  std::vector<uint64_t> planes[2];
  std::vector<float> scales;
  std::vector<float> offsets;
  std::vector<float> errors;
  std::vector<int8_t> queries;
  std::vector<float> steps;
  std::vector<int32_t> sums;
  std::vector<float> bases;
  std::vector<float> error_bounds;
  std::vector<float> thresholds;
  std::vector<float> scores;
  std::vector<uint16_t> survivors;
  int64_t num_blocks;
  int64_t num_words;
  int64_t num_planes;
  int64_t num_groups;

  Problem(int64_t blocks, int64_t words, int64_t code_planes, int64_t groups)
      : num_blocks(blocks), num_words(words), num_planes(code_planes), num_groups(groups) {
    std::mt19937_64 random(static_cast<uint64_t>(blocks * 1'000 + words * 10 + groups));
    std::normal_distribution<float> normal;
    std::uniform_int_distribution<int> level(-kBatchLevelMax, kBatchLevelMax);
    const auto num_codes = static_cast<size_t>(blocks * kBinaryBlockCodes);
    for (auto& plane : planes) {
      plane.resize(num_codes * static_cast<size_t>(words));
      for (uint64_t& word : plane) word = random();
    }
    const auto num_queries = static_cast<size_t>(groups * kBatchGroupQueries);
    queries.resize(num_queries * static_cast<size_t>(words) * 64);
    for (int8_t& value : queries) value = static_cast<int8_t>(level(random));
    for (auto* factors : {&scales, &offsets, &errors}) factors->resize(num_codes);
    for (auto* factors : {&steps, &bases, &error_bounds, &thresholds}) factors->resize(num_queries);
    for (auto* factors : {&scales, &offsets, &bases}) {
      for (float& value : *factors) value = normal(random);
    }
    for (auto* factors : {&errors, &steps, &error_bounds}) {
      for (float& value : *factors) value = std::abs(normal(random));
    }
    for (float& value : steps) value *= 0.01F;
    for (float& value : thresholds) value = 10.0F * normal(random);
    scores.resize(num_codes * num_queries);
    survivors.resize(num_codes * static_cast<size_t>(groups));
  }

  void SumQueries() {
    sums.assign(static_cast<size_t>(num_groups * kBatchGroupQueries), 0);
    const auto per_group = static_cast<size_t>(kBatchGroupQueries * num_words * 64);
    for (size_t i = 0; i < queries.size(); ++i) {
      sums[i / per_group * kBatchGroupQueries + i / 4 % kBatchGroupQueries] += queries[i];
    }
  }

  BinaryBatchScanParams params() {
    BinaryBatchScanParams params;
    params.planes[0] = planes[0].data();
    params.planes[1] = num_planes == 2 ? planes[1].data() : nullptr;
    params.num_planes = num_planes;
    params.num_words = num_words;
    params.num_blocks = num_blocks;
    params.scales = scales.data();
    params.offsets = offsets.data();
    params.errors = errors.data();
    params.num_groups = num_groups;
    params.queries = queries.data();
    params.steps = steps.data();
    SumQueries();
    params.sums = sums.data();
    params.bases = bases.data();
    params.error_bounds = error_bounds.data();
    params.thresholds = thresholds.data();
    params.scores = scores.data();
    params.survivors = survivors.data();
    return params;
  }
};

TEST(BinaryBatchScanTest, EveryTargetAgreesWithTheReference) {
  for (const int64_t num_words : {1, 2, 6, 17}) {
    for (const int64_t num_blocks : {0, 1, 5}) {
      for (const int64_t num_groups : {0, 1, 2, 5}) {
        for (const int64_t num_planes : {1, 2}) {
          SCOPED_TRACE(testing::Message()
                       << "num_words=" << num_words << " num_blocks=" << num_blocks
                       << " num_groups=" << num_groups << " num_planes=" << num_planes);
          Problem problem(num_blocks, num_words, num_planes, num_groups);
          ASSERT_TRUE(BinaryBatchScanReference(problem.params()).ok());
          const std::vector<float> expected = problem.scores;
          const std::vector<uint16_t> survivors = problem.survivors;
          ForEachTarget([&] {
            problem.scores.assign(problem.scores.size(), -1.0F);
            problem.survivors.assign(problem.survivors.size(), 0xA5A5);
            ASSERT_TRUE(BinaryBatchScan(problem.params()).ok());
            EXPECT_TRUE(ArraysAgree(problem.scores, expected,
                                    {.absolute = 1e-4, .relative = 1e-5, .nmse = 1e-10}));
            EXPECT_EQ(problem.survivors, survivors);
          });
        }
      }
    }
  }
}

TEST(BinaryBatchScanTest, TheLargestProductsFitTheirSums) {
  for (const int level : {-kBatchLevelMax, kBatchLevelMax}) {
    Problem problem(1, 1'024, 2, 1);
    for (auto& plane : problem.planes) plane.assign(plane.size(), ~uint64_t{0});
    problem.queries.assign(problem.queries.size(), static_cast<int8_t>(level));
    problem.scales.assign(problem.scales.size(), 1.0F);
    problem.offsets.assign(problem.offsets.size(), 0.0F);
    problem.steps.assign(problem.steps.size(), 1.0F);
    problem.bases.assign(problem.bases.size(), 0.0F);
    ForEachTarget([&] {
      ASSERT_TRUE(BinaryBatchScan(problem.params()).ok());
      for (const float score : problem.scores) {
        EXPECT_EQ(score, 3.0F * static_cast<float>(level) * 65'536.0F);
      }
    });
  }
}

TEST(BinaryBatchScanTest, WhatIsNotFiniteSurvivesOnlyIfItIsAboveTheThreshold) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Problem problem(1, 2, 1, 1);
  problem.scales[0] = std::numeric_limits<float>::quiet_NaN();
  problem.offsets[1] = kInfinity;
  problem.offsets[2] = -kInfinity;
  problem.thresholds.assign(problem.thresholds.size(), 0.0F);
  ForEachTarget([&] {
    ASSERT_TRUE(BinaryBatchScan(problem.params()).ok());
    EXPECT_EQ(problem.survivors[0], 0);
    EXPECT_EQ(problem.survivors[1], 0xFFFF);
    EXPECT_EQ(problem.survivors[2], 0);
    EXPECT_TRUE(std::isnan(problem.scores[0]));
  });
}

TEST(BinaryBatchScanTest, BadParamsAreRefusedByBothForms) {
  Problem problem(1, 2, 2, 1);
  for (const auto& op : {&BinaryBatchScan, &BinaryBatchScanReference}) {
    const auto refuses = [&](auto change) {
      BinaryBatchScanParams params = problem.params();
      change(&params);
      return op(params).code() == StatusCode::kInvalidArgument;
    };
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->num_words = 0; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->num_words = 1'025; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->num_planes = 3; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->num_blocks = -1; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->num_groups = -1; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->planes[1] = nullptr; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->queries = nullptr; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->sums = nullptr; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->thresholds = nullptr; }));
    EXPECT_TRUE(refuses([](BinaryBatchScanParams* p) { p->survivors = nullptr; }));
  }
}

}  // namespace
}  // namespace intarsia::kernels
