// What every form of AttentionRows must do.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention_rows.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/attention_rows_cases.h"

namespace intarsia::kernels {

using AttentionRowsForm = std::function<Status(const AttentionRowsParams&)>;

// f32 differs by the order of sums and by exponentials within 1e-6; a score is off by its rounding,
// and a probability by as many relative parts. With bf16, queries and probabilities are rounded to
// 8 bits, so scores of standard deviation s are off by about s * 2^-9.
inline Tolerance AttentionTolerance(const AttentionRowsCase& problem) {
  double spread = problem.q_scale;
  if (problem.logit_softcap > 0.0F) spread = std::fmin(spread, problem.logit_softcap);
  if (spread > 1e3) spread = 1.0;  // All weight is on one key, and no rounding moves it.
  const double unit = problem.type == KvType::kF32 ? 1e-6 : 5e-3;
  const double error = unit * std::fmax(1.0, spread);
  return {.absolute = 3.0 * error, .relative = error, .nmse = error * error};
}

// Scores so large that rounding them to bf16 may pick another key: only bounds can be checked.
inline bool IsUndecided(const AttentionRowsCase& problem) {
  return problem.q_scale > 1e3F && problem.type == KvType::kBf16;
}

inline std::vector<float> RunAttentionRows(const AttentionRowsForm& form,
                                           const AttentionRowsCase& problem) {
  AttentionRowsData data(problem);
  const Status status = form(data.Params());
  EXPECT_TRUE(status.ok()) << status;
  return data.Output();
}

inline void ExpectAttentionRowsAgree(const AttentionRowsForm& form,
                                     const AttentionRowsCase& problem,
                                     const std::vector<float>& expected) {
  const std::vector<float> actual = RunAttentionRows(form, problem);
  if (IsUndecided(problem)) {
    for (const float x : actual) ASSERT_LT(std::fabs(x), 10.0F);
    return;
  }
  EXPECT_TRUE(ArraysAgree(actual, expected, AttentionTolerance(problem)));
}

// A query that is NaN spoils its own head of its own row.
inline void ExpectNanStaysInItsRow(const AttentionRowsForm& form) {
  const AttentionRowsCase problem{.name = "nan",
                                  .num_heads = 3,
                                  .head_dim = 16,
                                  .positions = {1, 4, 90, 400},
                                  .type = KvType::kBf16};
  const std::vector<float> expected = RunAttentionRows(form, problem);
  AttentionRowsData data(problem);
  data.q()[(2 * 3 + 1) * 16 + 5] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE(form(data.Params()).ok());
  const std::vector<float> actual = data.Output();
  for (size_t i = 0; i < actual.size(); ++i) {
    if (i / 16 == 2 * 3 + 1) {
      EXPECT_TRUE(std::isnan(actual[i])) << i;
    } else {
      EXPECT_EQ(actual[i], expected[i]) << i;
    }
  }
}

// What no form may accept: each change of good params with its code.
inline void ExpectBadAttentionRowsAreRefused(const AttentionRowsForm& form) {
  AttentionRowsData data(
      {.name = "bad", .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .positions = {1, 2, 3}});
  using Change = std::function<void(AttentionRowsParams&)>;
  const std::vector<int32_t> unsorted = {2, 1, 3};
  const std::vector<int32_t> negative = {-1, 1, 3};
  const std::vector<int32_t> above = {1, 2, static_cast<int32_t>(data.layer().capacity)};
  const std::vector<Change> invalid = {
      [](AttentionRowsParams& params) { params.layer.k = nullptr; },
      [](AttentionRowsParams& params) { params.layer.v = nullptr; },
      [](AttentionRowsParams& params) { params.layer.capacity = 15; },
      [](AttentionRowsParams& params) { params.layer.num_kv_heads = 0; },
      [](AttentionRowsParams& params) { params.q = nullptr; },
      [](AttentionRowsParams& params) { params.positions = nullptr; },
      [&](AttentionRowsParams& params) { params.positions = unsorted.data(); },
      [&](AttentionRowsParams& params) { params.positions = negative.data(); },
      [&](AttentionRowsParams& params) { params.positions = above.data(); },
      [](AttentionRowsParams& params) { params.num_rows = -1; },
      [](AttentionRowsParams& params) { params.num_heads = 3; },
      [](AttentionRowsParams& params) { params.num_heads = 0; },
      [](AttentionRowsParams& params) { params.scale = std::nanf(""); },
      [](AttentionRowsParams& params) { params.window = -1; },
      [](AttentionRowsParams& params) { params.logit_softcap = -1.0F; },
  };
  for (size_t i = 0; i < invalid.size(); ++i) {
    AttentionRowsParams params = data.Params();
    invalid[i](params);
    EXPECT_EQ(form(params).code(), StatusCode::kInvalidArgument) << "change " << i;
  }
  for (const int32_t head_dim : {8, 40, 272}) {
    AttentionRowsParams params = data.Params();
    params.layer.head_dim = head_dim;
    EXPECT_EQ(form(params).code(), StatusCode::kUnsupported) << head_dim;
  }
  AttentionRowsParams nothing = data.Params();
  nothing.num_rows = 0;
  nothing.q = nullptr;
  nothing.positions = nullptr;
  nothing.output = nullptr;
  EXPECT_TRUE(form(nothing).ok());
}

}  // namespace intarsia::kernels
