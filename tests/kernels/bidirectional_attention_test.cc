#include "kernels/bidirectional_attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "kernels/convert.h"
#include "tests/kernels/arrays_agree.h"

namespace intarsia::kernels {
namespace {

constexpr Tolerance kTolerance = {.absolute = 2e-6, .relative = 1e-5, .nmse = 1e-10};

// Texts of the given lengths with random rows, and an output with guard bands.
struct Case {
  Case(const std::vector<int64_t>& text_lengths, int32_t num_heads, int32_t head_dim)
      : row_begins(1, 0) {
    for (const int64_t length : text_lengths) row_begins.push_back(row_begins.back() + length);
    const auto width = static_cast<size_t>(num_heads) * static_cast<size_t>(head_dim);
    const auto num_rows = static_cast<size_t>(row_begins.back());
    std::mt19937 random(static_cast<uint32_t>(7 + head_dim));
    std::normal_distribution<float> normal;
    qkv.resize(num_rows * 3 * width);
    for (float& value : qkv) value = normal(random);
    y.assign(num_rows * width, -77.0f);
    y_bf16.assign(num_rows * width + 1, 0x1234);
    params = {.qkv = qkv.data(),
              .row_begins = row_begins.data(),
              .num_texts = static_cast<int64_t>(text_lengths.size()),
              .num_heads = num_heads,
              .head_dim = head_dim,
              .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
              .y = y.data(),
              .y_bf16 = nullptr};
  }
  Case(const Case&) = delete;
  Case& operator=(const Case&) = delete;

  std::vector<float> Run(ThreadPool* pool) {
    EXPECT_TRUE(BidirectionalAttention(params, pool).ok());
    return y;
  }
  std::vector<float> RunReference() {
    EXPECT_TRUE(BidirectionalAttentionReference(params).ok());
    return y;
  }

  std::vector<int64_t> row_begins;
  std::vector<float> qkv;
  std::vector<float> y;
  std::vector<uint16_t> y_bf16;
  BidirectionalAttentionParams params;
};

TEST(BidirectionalAttentionTest, AgreesWithTheReferenceAtAllSizes) {
  ThreadPool pool(2);
  const std::vector<std::vector<int64_t>> lengths = {
      {1}, {2, 3}, {7, 1, 0, 5}, {15, 16, 17}, {31, 33, 64}, {65, 130}, {257}};
  for (const auto& text_lengths : lengths) {
    for (const int32_t head_dim : {1, 8, 31, 32, 64, 80}) {
      Case attention(text_lengths, /*num_heads=*/3, head_dim);
      const std::vector<float> expected = attention.RunReference();
      EXPECT_TRUE(ArraysAgree(attention.Run(&pool), expected, kTolerance))
          << "texts=" << text_lengths.size() << " first=" << text_lengths[0]
          << " head_dim=" << head_dim;
    }
  }
}

TEST(BidirectionalAttentionTest, EveryInstructionSetAgreesWithTheReference) {
  ThreadPool pool(2);
  Case attention({1, 18, 70}, /*num_heads=*/2, /*head_dim=*/36);
  const std::vector<float> expected = attention.RunReference();
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_TRUE(ArraysAgree(attention.Run(&pool), expected, kTolerance)) << hwy::TargetName(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(BidirectionalAttentionTest, OneTokenSeesItselfOnly) {
  ThreadPool pool(1);
  Case attention({1, 1}, 2, 4);
  const std::vector<float> y = attention.Run(&pool);
  for (size_t row = 0; row < 2; ++row) {
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(y[row * 8 + i], attention.qkv[row * 24 + 16 + i]);
  }
}

TEST(BidirectionalAttentionTest, ATextDoesNotDependOnItsNeighbours) {
  ThreadPool pool(2);
  constexpr int64_t kLeft = 9, kRight = 29, kWidth = 32;
  Case together({9, 20, 6}, 2, 16);
  const std::vector<float> all = together.Run(&pool);
  Case alone({20}, 2, 16);
  alone.qkv.assign(together.qkv.begin() + kLeft * 3 * kWidth,
                   together.qkv.begin() + kRight * 3 * kWidth);
  alone.params.qkv = alone.qkv.data();
  const std::vector<float> one = alone.Run(&pool);
  EXPECT_EQ(one, std::vector<float>(all.begin() + kLeft * kWidth, all.begin() + kRight * kWidth));
}

TEST(BidirectionalAttentionTest, NanStaysInItsText) {
  ThreadPool pool(2);
  Case attention({5, 5}, 2, 16);
  constexpr int64_t kSecond = int64_t{5} * 32;  // where the second text begins
  const std::vector<float> clean = attention.Run(&pool);
  attention.qkv[40] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> spoiled = attention.Run(&pool);
  EXPECT_TRUE(std::equal(clean.begin() + kSecond, clean.end(), spoiled.begin() + kSecond));
}

TEST(BidirectionalAttentionTest, LargeScoresDoNotOverflow) {
  ThreadPool pool(1);
  Case attention({19}, 2, 32);
  for (float& value : attention.qkv) value *= 60.0f;
  const std::vector<float> expected = attention.RunReference();
  // Scores of some thousands have an absolute rounding error that the exponential magnifies.
  EXPECT_TRUE(ArraysAgree(attention.Run(&pool), expected,
                          {.absolute = 0.2, .relative = 5e-3, .nmse = 1e-5}));
}

TEST(BidirectionalAttentionTest, Bf16IsTheRoundedResultAndNothingBehindItIsWritten) {
  ThreadPool pool(2);
  Case attention({13, 4}, 3, 20);
  attention.params.y_bf16 = attention.y_bf16.data();
  const std::vector<float> y = attention.Run(&pool);
  std::vector<uint16_t> rounded(y.size() + 1, 0x1234);
  F32ToBf16(y.data(), static_cast<int64_t>(y.size()), rounded.data());
  EXPECT_EQ(attention.y_bf16, rounded);

  attention.params.y = nullptr;
  attention.y_bf16.assign(rounded.size(), 0x1234);
  attention.Run(&pool);
  EXPECT_EQ(attention.y_bf16, rounded);
}

TEST(BidirectionalAttentionTest, TwoRunsAndAnyNumberOfThreadsGiveTheSameBits) {
  ThreadPool one(1);
  ThreadPool three(3);
  Case attention({40, 3, 77}, 4, 32);
  const std::vector<float> first = attention.Run(&one);
  EXPECT_EQ(attention.Run(&one), first);
  EXPECT_EQ(attention.Run(&three), first);
}

TEST(BidirectionalAttentionTest, NoTextIsNoWork) {
  ThreadPool pool(1);
  EXPECT_TRUE(BidirectionalAttention({}, &pool).ok());
  EXPECT_TRUE(BidirectionalAttentionReference({}).ok());
  Case empty({0, 0}, 2, 8);
  // A vector without elements has no address.
  empty.params.qkv = empty.params.y = &empty.qkv.emplace_back();
  EXPECT_TRUE(BidirectionalAttention(empty.params, &pool).ok());
}

TEST(BidirectionalAttentionTest, BothFormsRefuseBadParameters) {
  ThreadPool pool(1);
  Case good({4, 4}, 2, 8);
  const std::vector<int64_t> descending = {0, 6, 4};
  const std::vector<int64_t> late = {1, 4, 8};
  std::vector<BidirectionalAttentionParams> bad(8, good.params);
  bad[0].qkv = nullptr;
  bad[1].row_begins = nullptr;
  bad[2].y = nullptr;
  bad[3].num_heads = 0;
  bad[4].head_dim = 0;
  bad[5].num_texts = -1;
  bad[6].row_begins = descending.data();
  bad[7].row_begins = late.data();
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(BidirectionalAttention(bad[i], &pool).code(), StatusCode::kInvalidArgument) << i;
    EXPECT_EQ(BidirectionalAttentionReference(bad[i]).code(), StatusCode::kInvalidArgument) << i;
  }
  BidirectionalAttentionParams wide = good.params;
  wide.head_dim = 1025;
  EXPECT_EQ(BidirectionalAttention(wide, &pool).code(), StatusCode::kUnsupported);
  EXPECT_EQ(BidirectionalAttention(good.params, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
