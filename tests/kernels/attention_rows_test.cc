#include "kernels/attention_rows.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/attention_rows_expectations.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

AttentionRowsForm FormWith(ThreadPool* pool) {
  return [pool](const AttentionRowsParams& params) { return AttentionRows(params, pool); };
}

class AttentionRowsTest : public ::testing::TestWithParam<AttentionRowsCase> {};

TEST_P(AttentionRowsTest, AgreesWithTheReferenceOnEveryTarget) {
  ThreadPool pool(2);
  const std::vector<float> expected = RunAttentionRows(AttentionRowsReference, GetParam());
  ForEachTarget([&] { ExpectAttentionRowsAgree(FormWith(&pool), GetParam(), expected); });
}

TEST_P(AttentionRowsTest, IsBitwiseEqualForAnyNumberOfThreads) {
  ThreadPool one(1);
  ThreadPool three(3);
  const std::vector<float> expected = RunAttentionRows(FormWith(&one), GetParam());
  EXPECT_EQ(RunAttentionRows(FormWith(&one), GetParam()), expected);
  EXPECT_EQ(RunAttentionRows(FormWith(&three), GetParam()), expected);
}

std::string NameOf(const ::testing::TestParamInfo<AttentionRowsCase>& problem) {
  return problem.param.name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionRowsTest, ::testing::ValuesIn(AttentionRowsCases()),
                         NameOf);

TEST(AttentionRowsContractTest, NanStaysInItsRow) {
  ThreadPool pool(2);
  ForEachTarget([&] { ExpectNanStaysInItsRow(FormWith(&pool)); });
}

TEST(AttentionRowsContractTest, BadParamsAreRefused) {
  ThreadPool pool(1);
  ExpectBadAttentionRowsAreRefused(FormWith(&pool));
  AttentionRowsData data({.name = "bad", .head_dim = 16, .positions = {1}});
  AttentionRowsParams params = data.Params();
  EXPECT_EQ(AttentionRows(params, nullptr).code(), StatusCode::kInvalidArgument);
  params.output = nullptr;
  EXPECT_EQ(AttentionRows(params, &pool).code(), StatusCode::kInvalidArgument);
}

// Rows of a fused prefill are chosen by a selector: the others must not be felt.
TEST(AttentionRowsContractTest, ARowIsTheSameAloneAndAmongOthers) {
  AttentionRowsCase problem{
      .name = "rows", .num_heads = 9, .num_kv_heads = 3, .positions = ScatteredPositions(60, 500)};
  ThreadPool pool(2);
  AttentionRowsData data(problem);
  ASSERT_TRUE(AttentionRows(data.Params(), &pool).ok());
  const std::vector<float> together = data.Output();
  const int64_t row_size = int64_t{9} * 64;
  for (int64_t row = 0; row < 60; row += 7) {
    AttentionRowsParams params = data.Params();
    std::vector<float> alone(static_cast<size_t>(row_size));
    params.q += row * row_size;
    params.positions += row;
    params.num_rows = 1;
    params.output = alone.data();
    ASSERT_TRUE(AttentionRows(params, &pool).ok());
    const std::vector<float> expected(together.begin() + row * row_size,
                                      together.begin() + (row + 1) * row_size);
    EXPECT_TRUE(ArraysAgree(alone, expected, {.absolute = 2e-2, .relative = 1e-2, .nmse = 1e-4}));
  }
}

TEST(AttentionRowsContractTest, NothingIsWrittenBesideTheOutput) {
  ThreadPool pool(2);
  AttentionRowsData data({.name = "guard", .num_heads = 3, .positions = PositionRange(0, 50)});
  AttentionRowsParams params = data.Params();
  const int64_t size = int64_t{50} * 3 * 64;
  std::vector<float> guarded(static_cast<size_t>(size + 32), 77.0F);
  params.output = guarded.data() + 16;
  ASSERT_TRUE(AttentionRows(params, &pool).ok());
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(guarded[i], 77.0F);
    EXPECT_EQ(guarded[guarded.size() - 1 - i], 77.0F);
  }
}

}  // namespace
}  // namespace intarsia::kernels
