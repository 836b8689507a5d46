#include "kernels/dot_rows.h"

#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

struct Problem {
  std::vector<float> query;
  std::vector<float> rows;
  std::vector<float> scores;

  Problem(int64_t num_rows, int64_t dim) {
    std::mt19937 random(static_cast<uint32_t>(num_rows * 1'000 + dim));
    std::normal_distribution<float> normal;
    query.resize(static_cast<size_t>(dim));
    rows.resize(static_cast<size_t>(num_rows * dim));
    scores.resize(static_cast<size_t>(num_rows));
    for (float& value : query) value = normal(random);
    for (float& value : rows) value = normal(random);
  }

  DotRowsParams params() {
    DotRowsParams params;
    params.query = query.data();
    params.rows = rows.data();
    params.num_rows = static_cast<int64_t>(scores.size());
    params.dim = static_cast<int64_t>(query.size());
    params.scores = scores.data();
    return params;
  }
};

constexpr Tolerance kTolerance{.absolute = 1e-4, .relative = 1e-5, .nmse = 1e-10};

TEST(DotRowsTest, EveryTargetAgreesWithTheReference) {
  for (const int64_t dim : {1, 3, 4, 15, 16, 17, 63, 64, 65, 100, 384, 769}) {
    for (const int64_t num_rows : {0, 1, 2, 7}) {
      SCOPED_TRACE(testing::Message() << "dim=" << dim << " num_rows=" << num_rows);
      Problem problem(num_rows, dim);
      ASSERT_TRUE(DotRowsReference(problem.params()).ok());
      const std::vector<float> expected = problem.scores;
      ForEachTarget([&] {
        problem.scores.assign(problem.scores.size(), -1.0F);
        ASSERT_TRUE(DotRows(problem.params()).ok());
        EXPECT_TRUE(ArraysAgree(problem.scores, expected, kTolerance));
      });
    }
  }
}

TEST(DotRowsTest, AChosenRowHasTheBitsThatItHasAmongAllRows) {
  Problem problem(9, 387);
  ForEachTarget([&] {
    ASSERT_TRUE(DotRows(problem.params()).ok());
    const std::vector<float> all = problem.scores;
    const std::vector<int64_t> index = {8, 0, 5, 5};
    std::vector<const float*> pointers;
    for (const int64_t row : index) pointers.push_back(problem.rows.data() + row * 387);
    DotRowsParams params = problem.params();
    params.rows = nullptr;
    params.row_pointers = pointers.data();
    params.num_rows = 4;
    ASSERT_TRUE(DotRows(params).ok());
    for (size_t i = 0; i < index.size(); ++i) {
      EXPECT_EQ(problem.scores[i], all[static_cast<size_t>(index[i])]);
    }
  });
}

TEST(DotRowsTest, NanAndInfinityStayInTheirRow) {
  Problem problem(3, 70);
  problem.query.assign(70, 1.0F);
  problem.rows[3] = std::numeric_limits<float>::quiet_NaN();
  problem.rows[70 + 69] = std::numeric_limits<float>::infinity();
  ASSERT_TRUE(DotRowsReference(problem.params()).ok());
  const std::vector<float> expected = problem.scores;
  ForEachTarget([&] {
    ASSERT_TRUE(DotRows(problem.params()).ok());
    EXPECT_TRUE(ArraysAgree(problem.scores, expected, kTolerance));
  });
}

TEST(DotRowsTest, BadParamsAreRefusedByBothForms) {
  Problem problem(2, 8);
  for (const auto& op : {&DotRows, &DotRowsReference}) {
    DotRowsParams params = problem.params();
    params.dim = 0;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.num_rows = -1;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
    params = problem.params();
    params.scores = nullptr;
    EXPECT_EQ(op(params).code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::kernels
