// One ranking from two: the formulas, ties, and legs that found nothing.
#include "query/rank_fusion.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "index/text_analyzer.h"
#include "query/options.h"

namespace intarsia::query {
namespace {

using index::SearchHit;

const std::vector<SearchHit> kWords = {
    {.id = 1, .score = 12.0F}, {.id = 2, .score = 6.0F}, {.id = 3, .score = 3.0F}};
const std::vector<SearchHit> kVectors = {
    {.id = 3, .score = 0.8F}, {.id = 2, .score = 0.5F}, {.id = 4, .score = 0.2F}};

std::vector<RankedLeg> Legs(double text_weight, double vector_weight) {
  return {{.hits = kWords, .weight = text_weight, .least_score = 0.0},
          {.hits = kVectors, .weight = vector_weight, .least_score = -1.0}};
}

TEST(RankFusionTest, ReciprocalRanksAreSummedByWeight) {
  const auto hits = FuseRanks(Legs(1.0, 2.0), {.k = 10.0}, 10);
  ASSERT_EQ(hits.size(), 4u);
  EXPECT_EQ(hits[0].id, 3u);
  EXPECT_DOUBLE_EQ(hits[0].score, 1.0 / 13.0 + 2.0 / 11.0);
  EXPECT_EQ(hits[1].id, 2u);
  EXPECT_DOUBLE_EQ(hits[1].score, 1.0 / 12.0 + 2.0 / 12.0);
  EXPECT_EQ(hits[2].id, 4u);
  EXPECT_EQ(hits[3].id, 1u);
  EXPECT_EQ(hits[3].leg_scores[0], 12.0F);
  EXPECT_FALSE(hits[3].leg_scores[1].has_value());
}

TEST(RankFusionTest, RelativeScoresSpanEachLegsHits) {
  const auto hits = FuseRanks(Legs(1.0, 1.0), {.method = RankFusion::kRelative}, 10);
  ASSERT_EQ(hits.size(), 4u);
  // 1 and 3 are each best in one leg; 3 is last in the other, 1 is not there.
  EXPECT_EQ(hits[0].id, 1u);
  EXPECT_NEAR(hits[0].score, 1.0, 1e-6);
  EXPECT_EQ(hits[1].id, 3u);
  EXPECT_NEAR(hits[1].score, 1.0, 1e-6);
  EXPECT_NEAR(hits[2].score, (6.0 - 3.0) / 9.0 + 0.5, 1e-6);
  EXPECT_NEAR(hits[3].score, 0.0, 1e-6);
}

TEST(RankFusionTest, LinearScoresKeepWhatTheLowestHitIsWorth) {
  const auto hits = FuseRanks(Legs(1.0, 1.0), {.method = RankFusion::kLinear}, 10);
  ASSERT_EQ(hits.size(), 4u);
  EXPECT_EQ(hits[0].id, 2u);
  EXPECT_NEAR(hits[0].score, 6.0 / 12.0 + 1.5 / 1.8, 1e-6);
  EXPECT_EQ(hits[1].id, 3u);
  EXPECT_NEAR(hits[1].score, 3.0 / 12.0 + 1.0, 1e-6);
  EXPECT_EQ(hits[2].id, 1u);
  EXPECT_NEAR(hits[3].score, 1.2 / 1.8, 1e-6);
}

TEST(RankFusionTest, TheLimitCutsAndTiesGoToTheLowerId) {
  const std::vector<SearchHit> one = {{.id = 9, .score = 1.0F}};
  const std::vector<SearchHit> other = {{.id = 5, .score = 0.1F}};
  for (const RankFusion method :
       {RankFusion::kReciprocalRank, RankFusion::kRelative, RankFusion::kLinear}) {
    const RankedLeg legs[] = {{.hits = one}, {.hits = other}, {.hits = {}}};
    const auto hits = FuseRanks(legs, {.method = method}, 1);
    ASSERT_EQ(hits.size(), 1u);
    EXPECT_EQ(hits[0].id, 5u);
    EXPECT_EQ(hits[0].leg_scores.size(), 3u);
    EXPECT_TRUE(FuseRanks(legs, {.method = method}, 0).empty());
  }
}

TEST(RankFusionTest, LanguagesOfTheOptionAreThoseOfTheAnalyzer) {
  std::vector<std::string> names;
  for (const OptionSpec& spec : OptionsOf(OptionTable::kCreateCollection)) {
    if (spec.name == "language") names.assign(spec.choices.begin(), spec.choices.end());
  }
  std::vector<std::string> known(index::TextAnalyzer::Languages().begin(),
                                 index::TextAnalyzer::Languages().end());
  known.emplace_back("none");
  std::ranges::sort(known);
  std::ranges::sort(names);
  EXPECT_EQ(names, known);
  for (const std::string& name : known) EXPECT_TRUE(index::TextAnalyzer::Create(name).ok()) << name;
}

}  // namespace
}  // namespace intarsia::query
