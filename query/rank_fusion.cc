#include "query/rank_fusion.h"

#include <algorithm>
#include <map>
#include <utility>

namespace intarsia::query {
namespace {

// What the leg's hit of `rank`, from 0, is worth before its weight.
double WorthOf(const RankedLeg& leg, size_t rank, const RankFusionOptions& options) {
  const double highest = leg.hits.front().score;
  const double lowest = leg.hits.back().score;
  const double score = leg.hits[rank].score;
  switch (options.method) {
    case RankFusion::kReciprocalRank:
      return 1.0 / (options.k + static_cast<double>(rank) + 1.0);
    case RankFusion::kRelative:
      return highest > lowest ? (score - lowest) / (highest - lowest) : 1.0;
    case RankFusion::kLinear:
      return highest > leg.least_score ? (score - leg.least_score) / (highest - leg.least_score)
                                       : 0.0;
  }
  return 0.0;
}

}  // namespace

std::vector<FusedHit> FuseRanks(std::span<const RankedLeg> legs, const RankFusionOptions& options,
                                int64_t limit) {
  std::map<uint64_t, FusedHit> by_id;
  for (size_t leg = 0; leg < legs.size(); ++leg) {
    for (size_t rank = 0; rank < legs[leg].hits.size(); ++rank) {
      const index::SearchHit& hit = legs[leg].hits[rank];
      FusedHit& fused = by_id[hit.id];
      fused.id = hit.id;
      fused.leg_scores.resize(legs.size());
      fused.leg_scores[leg] = hit.score;
      fused.score += legs[leg].weight * WorthOf(legs[leg], rank, options);
    }
  }
  std::vector<FusedHit> hits;
  hits.reserve(by_id.size());
  for (auto& [id, hit] : by_id) hits.push_back(std::move(hit));
  // They come by ascending id.
  std::ranges::stable_sort(hits, std::ranges::greater(), &FusedHit::score);
  if (std::ssize(hits) > limit) hits.resize(static_cast<size_t>(std::max<int64_t>(limit, 0)));
  return hits;
}

}  // namespace intarsia::query
