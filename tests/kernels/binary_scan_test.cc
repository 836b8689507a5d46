#include "kernels/binary_scan.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

struct Problem {
  std::vector<uint64_t> planes[2];
  std::vector<uint64_t> query;
  std::vector<float> scales;
  std::vector<float> offsets;
  std::vector<float> errors;
  std::vector<float> scores;
  std::vector<uint8_t> survivors;
  int64_t num_words;
  int64_t num_planes;

  Problem(int64_t num_blocks, int64_t words, int64_t code_planes)
      : num_words(words), num_planes(code_planes) {
    std::mt19937_64 random(static_cast<uint64_t>(num_blocks * 100 + words));
    std::normal_distribution<float> normal;
    const auto num_codes = static_cast<size_t>(num_blocks * kBinaryBlockCodes);
    for (auto& plane : planes) {
      plane.resize(num_codes * static_cast<size_t>(words));
      for (uint64_t& word : plane) word = random();
    }
    query.resize(static_cast<size_t>(kBinaryQueryPlanesMax * words));
    for (uint64_t& word : query) word = random();
    scales.resize(num_codes);
    offsets.resize(num_codes);
    errors.resize(num_codes);
    scores.resize(num_codes);
    survivors.resize(static_cast<size_t>(num_blocks));
    for (float& value : errors) value = std::abs(normal(random));
    for (float& value : scales) value = normal(random);
    for (float& value : offsets) value = normal(random);
  }

  BinaryScanParams params() {
    BinaryScanParams params;
    params.planes[0] = planes[0].data();
    params.planes[1] = num_planes == 2 ? planes[1].data() : nullptr;
    params.num_planes = num_planes;
    params.query_planes = query.data();
    params.num_words = num_words;
    params.num_blocks = static_cast<int64_t>(scores.size()) / kBinaryBlockCodes;
    params.scales = scales.data();
    params.offsets = offsets.data();
    params.half_step = 0.01F;
    params.base = 0.25F;
    params.scores = scores.data();
    params.errors = errors.data();
    params.error_bound = 1.9F;
    params.threshold = 1.0F;
    params.survivors = survivors.data();
    return params;
  }
};

TEST(BinaryScanTest, EveryTargetAgreesWithTheReference) {
  for (const int64_t num_words : {1, 2, 6, 12, 17}) {
    for (const int64_t num_blocks : {0, 1, 5}) {
      for (const int64_t num_planes : {1, 2}) {
        SCOPED_TRACE(testing::Message() << "num_words=" << num_words << " num_blocks=" << num_blocks
                                        << " num_planes=" << num_planes);
        for (const int64_t num_query_planes : {1, 4}) {
          Problem problem(num_blocks, num_words, num_planes);
          BinaryScanParams params = problem.params();
          params.num_query_planes = num_query_planes;
          ASSERT_TRUE(BinaryScanReference(params).ok());
          const std::vector<float> expected = problem.scores;
          const std::vector<uint8_t> survivors = problem.survivors;
          ForEachTarget([&] {
            problem.scores.assign(problem.scores.size(), -1.0F);
            problem.survivors.assign(problem.survivors.size(), 0xA5);
            ASSERT_TRUE(BinaryScan(params).ok());
            EXPECT_TRUE(ArraysAgree(problem.scores, expected,
                                    {.absolute = 1e-4, .relative = 1e-5, .nmse = 1e-10}));
            EXPECT_EQ(problem.survivors, survivors);
            params.survivors = nullptr;  // Then the errors are not wanted.
            params.errors = nullptr;
            ASSERT_TRUE(BinaryScan(params).ok());
            params = problem.params();
            params.num_query_planes = num_query_planes;
          });
        }
      }
    }
  }
}

TEST(BinaryScanTest, TheLargestDistanceFitsItsCounters) {
  Problem problem(1, 1'024, 2);
  problem.planes[0].assign(problem.planes[0].size(), 0);
  problem.planes[1].assign(problem.planes[1].size(), 0);
  problem.query.assign(problem.query.size(), ~uint64_t{0});
  problem.scales.assign(problem.scales.size(), 1.0F);
  problem.offsets.assign(problem.offsets.size(), 0.0F);
  BinaryScanParams params = problem.params();
  params.half_step = 1.0F;
  params.base = 0.0F;
  ForEachTarget([&] {
    ASSERT_TRUE(BinaryScan(params).ok());
    for (const float score : problem.scores) EXPECT_EQ(score, -3.0F * 15.0F * 65'536.0F);
  });
}

TEST(BinaryScanTest, BadParamsAreRefusedByBothForms) {
  Problem problem(1, 2, 2);
  for (const auto& op : {&BinaryScan, &BinaryScanReference}) {
    BinaryScanParams params = problem.params();
    params.num_words = 0;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.num_words = 1'025;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.num_planes = 3;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.num_query_planes = 2;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.errors = nullptr;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.planes[1] = nullptr;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
