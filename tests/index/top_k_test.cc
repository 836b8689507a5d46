#include "index/top_k.h"

#include <vector>

#include <gtest/gtest.h>

namespace intarsia::index {
namespace {

TEST(TopKTest, KeepsTheBestAndBreaksTiesByLowerId) {
  TopK best(3);
  for (const SearchHit& hit : {SearchHit{9, 1.0F}, SearchHit{2, 1.0F}, SearchHit{5, 2.0F},
                               SearchHit{7, 1.0F}, SearchHit{1, 0.5F}}) {
    best.Push(hit);
  }
  const std::vector<SearchHit> expected = {{5, 2.0F}, {2, 1.0F}, {7, 1.0F}};
  EXPECT_EQ(best.Take(), expected);
}

TEST(TopKTest, MergingPartsGivesWhatOneStreamGives) {
  TopK whole(4);
  TopK left(4);
  TopK right(4);
  for (uint64_t i = 0; i < 100; ++i) {
    const SearchHit hit{i, static_cast<float>((i * 37) % 11)};
    whole.Push(hit);
    (i % 3 == 0 ? left : right).Push(hit);
  }
  right.Merge(left);
  EXPECT_EQ(right.Take(), whole.Take());
}

TEST(TopKTest, AThresholdAppearsOnceFull) {
  TopK best(2);
  best.Push({1, 3.0F});
  EXPECT_LT(best.threshold(), -1e30F);
  best.Push({2, 4.0F});
  EXPECT_EQ(best.threshold(), 3.0F);
}

TEST(TopKTest, NoneAreKeptOfZero) {
  TopK best(0);
  best.Push({1, 3.0F});
  EXPECT_TRUE(best.Take().empty());
}

}  // namespace
}  // namespace intarsia::index
