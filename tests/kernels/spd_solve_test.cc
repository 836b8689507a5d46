#include "kernels/spd_solve.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

constexpr double kUntouched = 123.0;

// A = G G^T + size * identity in the lower triangle, kUntouched above it.
std::vector<double> RandomSpd(int64_t size, int64_t stride) {
  std::mt19937 generator(11);
  std::normal_distribution<double> normal;
  std::vector<double> factor(static_cast<size_t>(size * size));
  for (double& value : factor) value = normal(generator);
  std::vector<double> a(static_cast<size_t>(size * stride), kUntouched);
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = i == j ? static_cast<double>(size) : 0.0;
      for (int64_t k = 0; k < size; ++k) {
        sum +=
            factor[static_cast<size_t>(i * size + k)] * factor[static_cast<size_t>(j * size + k)];
      }
      a[static_cast<size_t>(i * stride + j)] = sum;
    }
  }
  return a;
}

TEST(SpdSolveTest, SolutionsSatisfyTheSystem) {
  ForEachTarget([] {
    for (const int64_t size : {1, 2, 5, 35, 36, 37, 72, 91, 150}) {
      for (const int64_t num_columns : {1, 7, 33, 129}) {
        const int64_t stride = size + 3;
        const auto a = RandomSpd(size, stride);
        const auto symmetric = [&](int64_t i, int64_t j) {
          return a[static_cast<size_t>(std::max(i, j) * stride + std::min(i, j))];
        };
        auto l = a;
        ASSERT_TRUE(Cholesky({l.data(), size, stride}).ok());
        for (int64_t i = 0; i < size; ++i) {
          for (int64_t j = i + 1; j < stride; ++j) {
            ASSERT_EQ(l[static_cast<size_t>(i * stride + j)], kUntouched) << "above the diagonal";
          }
        }
        const int64_t b_stride = num_columns + 1;
        std::vector<double> b(static_cast<size_t>(size * b_stride), kUntouched);
        for (size_t i = 0; i < b.size(); ++i) {
          if (static_cast<int64_t>(i) % b_stride != num_columns) {
            b[i] = std::sin(static_cast<double>(i));
          }
        }
        auto x = b;
        ASSERT_TRUE(SolveLower({l.data(), size, stride}, {x.data(), num_columns, b_stride}).ok());
        ASSERT_TRUE(
            SolveLowerTransposed({l.data(), size, stride}, {x.data(), num_columns, b_stride}).ok());
        for (int64_t i = 0; i < size; ++i) {
          for (int64_t column = 0; column < num_columns; ++column) {
            double sum = 0.0;
            for (int64_t k = 0; k < size; ++k) {
              sum += symmetric(i, k) * x[static_cast<size_t>(k * b_stride + column)];
            }
            ASSERT_NEAR(sum, b[static_cast<size_t>(i * b_stride + column)], 1e-11)
                << "size=" << size << " row=" << i << " column=" << column;
          }
          ASSERT_EQ(x[static_cast<size_t>(i * b_stride + num_columns)], kUntouched);
        }
      }
    }
  });
}

TEST(SpdSolveTest, SolveLowerAloneInvertsTheFactor) {
  // L = [2 0; 1 3], b = [4; 11] gives [2; 3]; L^T x = [2; 3] gives [0.5; 1].
  double l[] = {2.0, kUntouched, 1.0, 3.0};
  double b[] = {4.0, 11.0};
  ASSERT_TRUE(SolveLower({l, 2, 2}, {b, 1, 1}).ok());
  EXPECT_DOUBLE_EQ(b[0], 2.0);
  EXPECT_DOUBLE_EQ(b[1], 3.0);
  ASSERT_TRUE(SolveLowerTransposed({l, 2, 2}, {b, 1, 1}).ok());
  EXPECT_DOUBLE_EQ(b[0], 0.5);
  EXPECT_DOUBLE_EQ(b[1], 1.0);
}

TEST(SpdSolveTest, AMatrixThatIsNotPositiveDefiniteIsRefusedWithItsRow) {
  ForEachTarget([] {
    for (const int64_t size : {1, 40, 90}) {
      for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
        auto a = RandomSpd(size, size);
        const int64_t row = size / 2;
        a[static_cast<size_t>(row * size + row)] = bad;
        const Status status = Cholesky({a.data(), size, size});
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
        EXPECT_NE(status.message().find("row=" + std::to_string(row)), std::string::npos) << status;
      }
    }
  });
}

TEST(SpdSolveTest, ARankDeficientMatrixIsRefused) {
  std::vector<double> a(int64_t{50} * 50, 1.0);
  EXPECT_EQ(Cholesky({a.data(), 50, 50}).code(), StatusCode::kInvalidArgument);
}

TEST(SpdSolveTest, BadSizesAreRefusedAndEmptyOnesAreDone) {
  double x[4] = {1.0, 0.0, 0.0, 1.0};
  EXPECT_EQ(Cholesky({nullptr, 2, 2}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Cholesky({x, 2, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Cholesky({x, -1, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SolveLower({x, 2, 2}, {nullptr, 1, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SolveLower({x, 2, 2}, {x, 2, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Cholesky({}).ok());
  EXPECT_TRUE(SolveLower({x, 2, 2}, {}).ok());
  EXPECT_TRUE(SolveLowerTransposed({}, {x, 1, 1}).ok());
}

}  // namespace
}  // namespace intarsia::kernels
