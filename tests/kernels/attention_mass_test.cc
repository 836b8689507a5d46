#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "kernels/attention_rows.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/attention_rows_expectations.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

using MassForm = std::function<Status(const AttentionMassParams&)>;

MassForm FormWith(ThreadPool* pool) {
  return [pool](const AttentionMassParams& params) { return AttentionMass(params, pool); };
}

// Positive weights, every third of them 0, and a mass that is not 0 at first.
struct MassData {
  explicit MassData(const AttentionRowsCase& problem) : rows(problem) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(0.1F, 1.0F);
    weights.resize(problem.positions.size());
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = i % 3 == 2 ? 0.0F : uniform(random);
    mass.assign(static_cast<size_t>(rows.num_keys()) + 3, 0.25F);
  }
  AttentionMassParams Params() {
    AttentionMassParams params{.rows = rows.Params(),
                               .weights = weights.data(),
                               .mass = mass.data(),
                               .num_keys = static_cast<int64_t>(mass.size())};
    params.rows.output = nullptr;
    return params;
  }

  AttentionRowsData rows;
  std::vector<float> weights;
  std::vector<float> mass;
};

std::vector<float> RunMass(const MassForm& form, const AttentionRowsCase& problem) {
  MassData data(problem);
  const Status status = form(data.Params());
  EXPECT_TRUE(status.ok()) << status;
  return data.mass;
}

class AttentionMassTest : public ::testing::TestWithParam<AttentionRowsCase> {};

TEST_P(AttentionMassTest, AgreesWithTheReferenceOnEveryTarget) {
  ThreadPool pool(2);
  const std::vector<float> expected = RunMass(AttentionMassReference, GetParam());
  ForEachTarget([&] {
    const std::vector<float> actual = RunMass(FormWith(&pool), GetParam());
    if (!IsUndecided(GetParam())) {
      EXPECT_TRUE(ArraysAgree(actual, expected, AttentionTolerance(GetParam())));
    }
    // Whatever the scores, what is looked at sums up to the weights.
    const double added = std::accumulate(actual.begin(), actual.end(), 0.0) -
                         0.25 * static_cast<double>(actual.size());
    const MassData data(GetParam());
    const double wanted = std::accumulate(data.weights.begin(), data.weights.end(), 0.0);
    EXPECT_NEAR(added, wanted, 1e-4 * (1.0 + wanted));
  });
}

TEST_P(AttentionMassTest, IsBitwiseEqualForAnyNumberOfThreads) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::vector<float> expected = RunMass(FormWith(&one), GetParam());
  EXPECT_EQ(RunMass(FormWith(&one), GetParam()), expected);
  EXPECT_EQ(RunMass(FormWith(&three), GetParam()), expected);
}

std::string NameOf(const ::testing::TestParamInfo<AttentionRowsCase>& problem) {
  return problem.param.name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionMassTest, ::testing::ValuesIn(AttentionRowsCases()),
                         NameOf);

TEST(AttentionMassContractTest, RowsWithoutWeightAddNothing) {
  ThreadPool pool(2);
  MassData data({.name = "no_weight", .num_heads = 3, .positions = PositionRange(0, 20)});
  const std::vector<float> before = data.mass;
  data.weights.assign(data.weights.size(), 0.0F);
  ASSERT_TRUE(AttentionMass(data.Params(), &pool).ok());
  EXPECT_EQ(data.mass, before);
}

TEST(AttentionMassContractTest, KeysThatNoRowSeesStayAsTheyAre) {
  ThreadPool pool(2);
  MassData data({.name = "unseen", .num_heads = 3, .positions = {700, 710}, .window = 40});
  ASSERT_TRUE(AttentionMass(data.Params(), &pool).ok());
  for (size_t key = 0; key < data.mass.size(); ++key) {
    const bool is_seen = key > 700 - 40 && key <= 710;
    EXPECT_EQ(data.mass[key] != 0.25F, is_seen) << key;
  }
}

TEST(AttentionMassContractTest, BadParamsAreRefused) {
  ThreadPool pool(1);
  MassData data({.name = "bad", .num_heads = 3, .positions = {4, 9}});
  const auto code_of = [&](auto change) {
    AttentionMassParams params = data.Params();
    change(params);
    const StatusCode code = AttentionMassReference(params).code();
    EXPECT_EQ(AttentionMass(params, &pool).code(), code);
    return code;
  };
  EXPECT_EQ(code_of([](AttentionMassParams&) {}), StatusCode::kOk);
  EXPECT_EQ(code_of([](AttentionMassParams& params) { params.weights = nullptr; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](AttentionMassParams& params) { params.mass = nullptr; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](AttentionMassParams& params) { params.num_keys = 9; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](AttentionMassParams& params) { params.rows.q = nullptr; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](AttentionMassParams& params) { params.rows.layer.head_dim = 8; }),
            StatusCode::kUnsupported);
  EXPECT_EQ(AttentionMass(data.Params(), nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
