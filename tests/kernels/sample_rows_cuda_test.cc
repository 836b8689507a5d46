#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/sample_rows.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

using SampleRowsCudaTest = DeviceTest;

std::vector<SampleRule> Rules() {
  return {{},
          {.temperature = 1.0F, .seed = 1},
          {.temperature = 0.7F, .top_k = 40, .seed = 2},
          {.temperature = 1.3F, .top_p = 0.9F, .seed = 3},
          {.temperature = 0.8F, .top_k = 50, .top_p = 0.95F, .seed = 4},
          {.temperature = 10.0F, .top_k = 1, .seed = 5},
          {.temperature = 2.0F, .top_k = 2'000'000, .top_p = 1e-6F, .seed = 6},
          {.temperature = 0.01F, .seed = 7}};
}

// One row for each rule, with the same tokens on both sides.
void ExpectTheReferencesTokens(const std::vector<float>& logits, int64_t stride, int64_t vocab_size,
                               int32_t first_step) {
  const std::vector<SampleRule> rules = Rules();
  const auto num_rows = static_cast<int64_t>(rules.size());
  std::vector<int32_t> steps;
  for (int32_t row = 0; row < num_rows; ++row) steps.push_back(first_step + row);
  std::vector<int32_t> expected(rules.size());
  const DeviceArray<float> device_logits(logits);
  const DeviceArray<SampleRule> device_rules(rules);
  const DeviceArray<int32_t> device_steps(steps);
  const auto tokens = FilledOnDevice<int32_t>(num_rows, -7);
  SampleRowsParams params{.logits = device_logits.data(),
                          .stride = stride,
                          .rules = device_rules.data(),
                          .steps = device_steps.data(),
                          .tokens = tokens.data(),
                          .num_rows = num_rows,
                          .vocab_size = vocab_size};
  ASSERT_TRUE(SampleRowsCuda(params, nullptr).ok());
  params.logits = logits.data();
  params.rules = rules.data();
  params.steps = steps.data();
  params.tokens = expected.data();
  ASSERT_TRUE(SampleRowsReference(params).ok());
  EXPECT_EQ(tokens.CopyToHost(), expected);
  EXPECT_TRUE(tokens.GuardsAreIntact());
}

TEST_F(SampleRowsCudaTest, DrawsTheReferencesTokens) {
  const auto num_rows = static_cast<int64_t>(Rules().size());
  for (const int64_t vocab_size : {1, 2, 31, 1024, 1025, 32'003, 128'256}) {
    if (vocab_size > TestSizeMax()) break;
    SCOPED_TRACE(vocab_size);
    const int64_t stride = (vocab_size + 7) / 8 * 8;
    for (int32_t round = 0; round < 4; ++round) {
      const auto seed = static_cast<uint32_t>(round);
      std::vector<float> logits = RandomFloats(num_rows * stride, seed, 3.0F);
      // What lies between the rows must not be looked at.
      for (int64_t row = 0; row < num_rows; ++row) {
        for (int64_t i = vocab_size; i < stride; ++i) {
          logits[static_cast<size_t>(row * stride + i)] = 1e9F;
        }
      }
      ExpectTheReferencesTokens(logits, stride, vocab_size, 100 * round);
    }
  }
}

TEST_F(SampleRowsCudaTest, EqualLogitsAreCutByTheirIndex) {
  const auto num_rows = static_cast<int64_t>(Rules().size());
  const int64_t vocab_size = std::min<int64_t>(5'000, TestSizeMax() / 8 * 8);
  std::vector<float> logits(static_cast<size_t>(num_rows * vocab_size), -1.5F);
  for (size_t i = 0; i < logits.size(); i += 97) logits[i] = 2.0F;
  for (int32_t step = 0; step < 64; step += 8) {
    ExpectTheReferencesTokens(logits, vocab_size, vocab_size, step);
  }
}

TEST_F(SampleRowsCudaTest, NanAndInfinitiesAreAsInTheContract) {
  const auto num_rows = static_cast<int64_t>(Rules().size());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> logits = RandomFloats(num_rows * 300, 1);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i % 3 == 0) logits[i] = nan;
    if (i % 3 == 1) logits[i] = -INFINITY;
  }
  ExpectTheReferencesTokens(logits, 300, 300, 0);
  for (float& logit : logits) logit = std::isnan(logit) ? nan : -INFINITY;
  ExpectTheReferencesTokens(logits, 300, 300, 0);
  for (size_t i = 200; i < logits.size(); i += 300) logits[i] = INFINITY;
  ExpectTheReferencesTokens(logits, 300, 300, 0);
}

TEST_F(SampleRowsCudaTest, BadParamsAreRefused) {
  const auto logits = FilledOnDevice<float>(16, 0.0F);
  const DeviceArray<SampleRule> rules(std::vector<SampleRule>(2));
  const auto numbers = FilledOnDevice<int32_t>(2, 0);
  const SampleRowsParams good{.logits = logits.data(),
                              .stride = 8,
                              .rules = rules.data(),
                              .steps = numbers.data(),
                              .tokens = numbers.data(),
                              .num_rows = 2,
                              .vocab_size = 8};
  EXPECT_TRUE(SampleRowsCuda(good, nullptr).ok());
  SampleRowsParams params = good;
  params.stride = 7;
  EXPECT_EQ(SampleRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.rules = nullptr;
  EXPECT_EQ(SampleRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = 65'536;
  EXPECT_EQ(SampleRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
