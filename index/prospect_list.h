// ProspectList: what a scan of estimates keeps, in one pass and without a score for every vector.
//
// Each estimate comes with an interval that its true score lies in. The k-th best of the lower ends
// is a score that k vectors reach at least, so a vector whose upper end is lower cannot be among
// the k best, and is dropped at once. Lists of several threads are merged at the end; what is left
// then depends neither on the order of the scan nor on how it was shared.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "index/top_k.h"

namespace intarsia::index {

// A vector that may be among the k best.
struct Prospect {
  int64_t slot = 0;
  float limit = 0.0F;  // the highest score that it can have
};

inline bool IsMorePromising(const Prospect& a, const Prospect& b) {
  return a.limit > b.limit || (a.limit == b.limit && a.slot < b.slot);
}

class ProspectList {
 public:
  explicit ProspectList(int64_t k) : floor_(k) {}

  // A vector whose limit is below this need not be added.
  float threshold() const { return floor_.threshold(); }

  // Adds a vector with a score in [score - error, score + error].
  void Add(int64_t slot, float score, float error) {
    if (score + error < threshold()) return;
    prospects_.push_back({slot, score + error});
    floor_.Push({static_cast<uint64_t>(slot), score - error});
    if (prospects_.size() >= next_prune_) Prune();
  }

  void Merge(const ProspectList& other) {
    floor_.Merge(other.floor_);
    prospects_.insert(prospects_.end(), other.prospects_.begin(), other.prospects_.end());
  }

  // What may still be among the k best, the most promising first.
  std::vector<Prospect> Take() {
    Prune();
    std::sort(prospects_.begin(), prospects_.end(), IsMorePromising);
    return std::exchange(prospects_, {});
  }

 private:
  static constexpr size_t kPruneMin = 4'096;

  void Prune() {
    const float least = threshold();
    std::erase_if(prospects_, [least](const Prospect& one) { return one.limit < least; });
    next_prune_ = std::max(kPruneMin, 2 * prospects_.size());
  }

  TopK floor_;  // the lower ends
  std::vector<Prospect> prospects_;
  size_t next_prune_ = kPruneMin;
};

}  // namespace intarsia::index
