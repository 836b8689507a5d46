#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/select_rows.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

class SelectRowsCudaTest : public DeviceTest {};

enum class Scores { kRandom, kFewValues, kOne, kSpecial };

struct SelectRowsCase {
  int32_t num_positions;
  Scores scores;
  int32_t taken_period;  // every taken_period-th candidate is taken; 0: none
};

std::vector<float> MakeScores(const SelectRowsCase& test_case) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> special = {0.0f,          -0.0f,  kInfinity, -kInfinity,
                                      std::nanf(""), 1e-42f, -1e-42f,   3.0f};
  std::mt19937 generator(3);
  std::vector<float> scores(static_cast<size_t>(test_case.num_positions));
  for (float& score : scores) {
    const auto number = static_cast<uint32_t>(generator());
    if (test_case.scores == Scores::kRandom) score = static_cast<float>(number % 1'000'003) * 1e-6f;
    if (test_case.scores == Scores::kFewValues) score = static_cast<float>(number % 5) - 2.0f;
    if (test_case.scores == Scores::kOne) score = 0.25f;
    if (test_case.scores == Scores::kSpecial) score = special[number % special.size()];
  }
  return scores;
}

void ExpectTheDeviceAgrees(const SelectRowsCase& test_case, int32_t count) {
  const std::vector<float> scores = MakeScores(test_case);
  std::vector<int32_t> candidates;
  std::vector<uint8_t> is_taken;
  for (int32_t position = 0; position < test_case.num_positions; ++position) {
    if (position % 7 == 3) continue;  // not a candidate
    const auto index = static_cast<int32_t>(candidates.size());
    is_taken.push_back(test_case.taken_period > 0 && index % test_case.taken_period == 0);
    candidates.push_back(position);
  }
  const auto num_taken = static_cast<int32_t>(std::ranges::count(is_taken, 1));
  count = std::min(count, static_cast<int32_t>(candidates.size()) - num_taken);
  SCOPED_TRACE("positions " + std::to_string(test_case.num_positions) + " count " +
               std::to_string(count) + " taken " + std::to_string(num_taken) + " scores " +
               std::to_string(static_cast<int>(test_case.scores)));
  std::vector<int32_t> expected(static_cast<size_t>(num_taken + count));
  expected.reserve(1);  // no rows at all are still an array
  ASSERT_TRUE(SelectRowsReference({.scores = scores.data(),
                                   .candidates = candidates.data(),
                                   .is_taken = is_taken.data(),
                                   .rows = expected.data(),
                                   .num_candidates = static_cast<int32_t>(candidates.size()),
                                   .count = count})
                  .ok());
  const DeviceArray<float> device_scores(scores);
  const DeviceArray<int32_t> device_candidates(candidates);
  const DeviceArray<uint8_t> device_taken(is_taken);
  const DeviceArray<int32_t> rows(std::vector<int32_t>(expected.size(), -1));
  ASSERT_TRUE(SelectRowsCuda({.scores = device_scores.data(),
                              .candidates = device_candidates.data(),
                              .is_taken = device_taken.data(),
                              .rows = rows.data(),
                              .num_candidates = static_cast<int32_t>(candidates.size()),
                              .count = count},
                             nullptr)
                  .ok());
  EXPECT_EQ(rows.CopyToHost(), expected);
  EXPECT_TRUE(rows.GuardsAreIntact());
}

TEST_F(SelectRowsCudaTest, AgreesWithTheReference) {
  for (const int32_t num_positions : {1, 2, 31, 33, 1'023, 1'030, 5'200, 40'000}) {
    if (num_positions > TestSizeMax()) break;
    for (const Scores scores :
         {Scores::kRandom, Scores::kFewValues, Scores::kOne, Scores::kSpecial}) {
      for (const int32_t taken_period : {0, 33, 2}) {
        for (const int32_t share : {0, 5, 15, 50, 100}) {
          ExpectTheDeviceAgrees({num_positions, scores, taken_period}, num_positions * share / 100);
        }
        ExpectTheDeviceAgrees({num_positions, scores, taken_period}, 1);
      }
    }
  }
}

TEST_F(SelectRowsCudaTest, BadParamsAreRefusedBeforeALaunch) {
  EXPECT_TRUE(SelectRowsCuda({}, nullptr).ok());
  EXPECT_EQ(SelectRowsCuda({.num_candidates = 1}, nullptr).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SelectRowsCuda({.num_candidates = 1, .count = 2}, nullptr).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(SelectRowsCuda({.count = -1}, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
