#include "kernels/quantized_gemv.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "tests/kernels/for_each_target.h"
#include "tests/kernels/quantized_gemv_cases.h"

namespace intarsia::kernels {
namespace {

// y and the reference, relative to what the terms of a sum of this length amount to.
void ExpectMatchesReference(BlockType type, int64_t num_outputs, int64_t num_inputs,
                            int64_t num_rows, ThreadPool* pool) {
  SCOPED_TRACE(testing::Message() << BlockTypeName(type) << " outputs=" << num_outputs
                                  << " inputs=" << num_inputs << " rows=" << num_rows);
  GemvData data(type, num_outputs, num_inputs, num_rows);
  ASSERT_TRUE(QuantizedGemv(data.params, pool).ok());
  AlignedArray<float> expected(data.y.size());
  QuantizedGemvParams params = data.params;
  params.y = expected.data();
  ASSERT_TRUE(QuantizedGemvReference(params).ok());
  const double tolerance = 2e-6 * std::sqrt(static_cast<double>(num_inputs)) + 1e-6;
  for (int64_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(data.y[i], expected[i], tolerance) << "at " << i;
  }
  const std::vector<float> first(data.y.data(), data.y.data() + data.y.size());
  ASSERT_TRUE(QuantizedGemv(data.params, pool).ok());
  for (int64_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(data.y[i], first[static_cast<size_t>(i)]) << "differs between two runs at " << i;
  }
}

void ExpectAllShapesMatch(ThreadPool* pool) {
  for (const BlockType type : kAllBlockTypes) {
    const int64_t block = BlockSize(type);
    for (const int64_t num_outputs : {1, 2, 7, 33}) {
      for (const int64_t num_rows : {1, 2, 3, 4, 5, 6, 7, 8}) {
        for (const int64_t num_blocks : {1, 3}) {
          ExpectMatchesReference(type, num_outputs, num_blocks * block, num_rows, pool);
        }
      }
    }
    ExpectMatchesReference(type, 300, 768, 1, pool);
  }
}

TEST(QuantizedGemvTest, MatchesTheReferenceForEveryTypeAndShape) {
  ThreadPool pool(2);
  ExpectAllShapesMatch(&pool);
}

TEST(QuantizedGemvTest, MatchesTheReferenceOnEveryInstructionSetOfThisMachine) {
  ThreadPool pool(1);
  ForEachTarget([&] { ExpectAllShapesMatch(&pool); });
}

TEST(QuantizedGemvTest, FloatRowsOfAnyLengthIncludeTheirTail) {
  ThreadPool pool(1);
  for (const BlockType type : {BlockType::kF32, BlockType::kF16, BlockType::kBf16}) {
    for (const int64_t num_inputs : {1, 31, 32, 33, 95}) {
      ExpectMatchesReference(type, 3, num_inputs, 2, &pool);
    }
  }
}

TEST(QuantizedGemvTest, AnOutputDoesNotDependOnThreadsOrNeighbours) {
  for (const BlockType type : kAllBlockTypes) {
    GemvData data(type, 301, 512, 1);
    ThreadPool two(2);
    ASSERT_TRUE(QuantizedGemv(data.params, &two).ok());
    const std::vector<float> all(data.y.data(), data.y.data() + data.y.size());
    ThreadPool one(1);
    for (const int64_t output : {0, 1, 150, 300}) {
      QuantizedGemvParams params = data.params;
      params.weights = data.weights.data() + output * RowBytes(type, 512);
      params.bias = data.params.bias + output;
      params.num_outputs = 1;
      ASSERT_TRUE(QuantizedGemv(params, &one).ok());
      EXPECT_EQ(data.y[0], all[static_cast<size_t>(output)]) << BlockTypeName(type);
    }
  }
}

TEST(QuantizedGemvTest, NoBiasMeansZero) {
  GemvData data(BlockType::kQ8_0, 4, 64, 1);
  ThreadPool pool(1);
  ASSERT_TRUE(QuantizedGemv(data.params, &pool).ok());
  const float with_bias = data.y[2];
  data.params.bias = nullptr;
  ASSERT_TRUE(QuantizedGemv(data.params, &pool).ok());
  EXPECT_NEAR(data.y[2] + data.bias[2], with_bias, 1e-5);
}

TEST(QuantizedGemvTest, NotANumberStaysInItsRow) {
  for (const BlockType type : kAllBlockTypes) {
    GemvData data(type, 5, 256, 3);
    data.x[256 + 17] = std::numeric_limits<float>::quiet_NaN();
    ThreadPool pool(1);
    ASSERT_TRUE(QuantizedGemv(data.params, &pool).ok());
    for (int64_t i = 0; i < data.y.size(); ++i) EXPECT_EQ(std::isnan(data.y[i]), i / 5 == 1);
  }
}

TEST(QuantizedGemvTest, WeightsAreReadFromAnyAlignmentAndNotBeyondTheirEnd) {
  ThreadPool pool(1);
  for (const BlockType type : kAllBlockTypes) {
    GemvData data(type, 3, 256, 1);
    ASSERT_TRUE(QuantizedGemv(data.params, &pool).ok());
    const std::vector<float> expected(data.y.data(), data.y.data() + data.y.size());
    // At the end of an allocation of exactly this size, where asan would see a read behind it.
    std::vector<char> shifted(1 + data.weights.size());
    std::copy(data.weights.begin(), data.weights.end(), shifted.begin() + 1);
    data.params.weights = shifted.data() + 1;
    ASSERT_TRUE(QuantizedGemv(data.params, &pool).ok());
    for (int64_t i = 0; i < data.y.size(); ++i) {
      EXPECT_EQ(data.y[i], expected[static_cast<size_t>(i)]) << BlockTypeName(type);
    }
  }
}

TEST(QuantizedGemvTest, RefusesBadSizesAndPointers) {
  ThreadPool pool(1);
  GemvData data(BlockType::kQ4_K, 2, 256, 1);
  const auto code_with = [&](auto change) {
    QuantizedGemvParams params = data.params;
    change(&params);
    const StatusCode code = QuantizedGemv(params, &pool).code();
    EXPECT_EQ(QuantizedGemvReference(params).code(), code);
    return code;
  };
  using Params = QuantizedGemvParams;
  const auto bad = StatusCode::kInvalidArgument;
  EXPECT_EQ(code_with([](Params* p) { p->num_inputs = 255; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_inputs = 0; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_inputs = -256; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_outputs = -1; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_outputs = int64_t{1} << 62; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_rows = kGemvRowsMax + 1; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_rows = -1; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->type = static_cast<BlockType>(99); }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->x = nullptr; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->y = nullptr; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->weights = nullptr; }), bad);
  EXPECT_EQ(code_with([](Params* p) { p->num_rows = 0; }), StatusCode::kOk);
  EXPECT_EQ(code_with([](Params* p) { p->num_outputs = 0; }), StatusCode::kOk);
}

}  // namespace
}  // namespace intarsia::kernels
