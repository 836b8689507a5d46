// FuseRanks: one ranking from those of several searches of the same collection.
//
// Scores of different searches cannot be compared, so they are either left out (reciprocal rank) or
// brought to one scale. A hit that a leg did not find gets nothing from it.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "index/top_k.h"

namespace intarsia::query {

enum class RankFusion : uint8_t {
  // weight / (k + rank), the best hit being of rank 1. Needs no scale and minds no outlier.
  kReciprocalRank,
  // weight * (score - lowest) / (highest - lowest) of the leg's hits.
  kRelative,
  // weight * (score - least possible) / (highest - least possible): the lowest hit keeps its worth.
  kLinear,
};

struct RankFusionOptions {
  RankFusion method = RankFusion::kReciprocalRank;
  double k = 60.0;  // of kReciprocalRank, > 0
};

struct RankedLeg {
  std::span<const index::SearchHit> hits;  // best first, each id once
  double weight = 1.0;                     // >= 0
  double least_score = 0.0;                // that the leg's scores can take; -1 for cosines
};

struct FusedHit {
  uint64_t id = 0;
  double score = 0.0;
  std::vector<std::optional<float>> leg_scores;  // [legs.size()], as the legs gave them
};

// The best `limit` hits of all legs by the weighted sum of what each leg gives them, best first,
// ties by lower id.
std::vector<FusedHit> FuseRanks(std::span<const RankedLeg> legs, const RankFusionOptions& options,
                                int64_t limit);

}  // namespace intarsia::query
