#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention_rows.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/attention_rows_expectations.h"

namespace intarsia::kernels {
namespace {

// One head of 16 elements. Key u is (u, 0, ..), value u is (u, 1, 0, ..), and every query (1, 0,
// ..).
struct Line {
  explicit Line(std::vector<int32_t> at)
      : data({.name = "line", .head_dim = 16, .positions = std::move(at), .type = KvType::kF32}) {
    params = data.Params();
    params.scale = 1.0F;
    for (int64_t i = 0; i < params.num_rows * 16; ++i) data.q()[i] = i % 16 == 0 ? 1.0F : 0.0F;
    for (int32_t key = 0; key < data.num_keys(); ++key) {
      std::vector<float> k(16, 0.0F);
      std::vector<float> v(16, 0.0F);
      k[0] = static_cast<float>(key);
      v[0] = static_cast<float>(key);
      v[1] = 1.0F;
      EXPECT_TRUE(StoreKv({data.layer(), &key, k.data(), v.data(), 1}).ok());
    }
  }

  AttentionRowsData data;
  AttentionRowsParams params;
};

TEST(AttentionRowsReferenceTest, OneKeyGivesItsValue) {
  Line line({0});
  ASSERT_TRUE(AttentionRowsReference(line.params).ok());
  EXPECT_EQ(line.data.Output()[0], 0.0F);
  EXPECT_EQ(line.data.Output()[1], 1.0F);
}

TEST(AttentionRowsReferenceTest, KeysWeighByTheExponentialOfTheirScores) {
  Line line({2});
  ASSERT_TRUE(AttentionRowsReference(line.params).ok());
  const double e = std::exp(1.0);
  EXPECT_NEAR(line.data.Output()[0], (e + 2.0 * e * e) / (1.0 + e + e * e), 1e-6);
  EXPECT_NEAR(line.data.Output()[1], 1.0, 1e-6);
}

TEST(AttentionRowsReferenceTest, AWindowOfOneGivesTheRowsOwnValue) {
  Line line({3, 5});
  line.params.window = 1;
  ASSERT_TRUE(AttentionRowsReference(line.params).ok());
  EXPECT_EQ(line.data.Output()[0], 3.0F);
  EXPECT_EQ(line.data.Output()[16], 5.0F);
}

TEST(AttentionRowsReferenceTest, ASoftcapBoundsTheScores) {
  Line line({1});
  line.params.scale = 1'000.0F;
  line.params.logit_softcap = 1.0F;
  ASSERT_TRUE(AttentionRowsReference(line.params).ok());
  const double e = std::exp(1.0);  // tanh(1000) = 1
  EXPECT_NEAR(line.data.Output()[0], e / (1.0 + e), 1e-6);
}

TEST(AttentionRowsReferenceTest, MassIsTheWeightedProbability) {
  Line line({0, 1});
  const std::vector<float> weights = {0.5F, 2.0F};
  std::vector<float> mass = {10.0F, 20.0F, 30.0F};
  ASSERT_TRUE(AttentionMassReference({line.params, weights.data(), mass.data(), 3}).ok());
  const double e = std::exp(1.0);
  EXPECT_NEAR(mass[0], 10.0 + 0.5 + 2.0 / (1.0 + e), 1e-5);
  EXPECT_NEAR(mass[1], 20.0 + 2.0 * e / (1.0 + e), 1e-5);
  EXPECT_EQ(mass[2], 30.0F);
}

TEST(AttentionRowsReferenceTest, NanStaysInItsRow) {
  ExpectNanStaysInItsRow(AttentionRowsReference);
}

TEST(AttentionRowsReferenceTest, BadParamsAreRefused) {
  ExpectBadAttentionRowsAreRefused(AttentionRowsReference);
}

}  // namespace
}  // namespace intarsia::kernels
