#include "storage/kv_eviction.h"

#include <algorithm>

namespace intarsia::storage {
namespace {

// A cache that was used more often was liked once, and nothing says that it still is
// (bench/storage/kv_eviction_bench).
constexpr uint64_t kUsesThatCount = 3;

class LeastRecentlyUsedPolicy : public KvEvictionPolicy {
 public:
  double Worth(const KvEvictionCandidate& candidate) const override {
    const auto age = static_cast<double>(candidate.now - candidate.last_use);
    const auto num_uses =
        static_cast<double>(std::clamp(candidate.num_uses, uint64_t{1}, kUsesThatCount));
    return -age / (num_uses * num_uses);
  }
};

}  // namespace

const KvEvictionPolicy* KvEvictionPolicy::LeastRecentlyUsed() {
  static const LeastRecentlyUsedPolicy policy;
  return &policy;
}

}  // namespace intarsia::storage
