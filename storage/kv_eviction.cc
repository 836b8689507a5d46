#include "storage/kv_eviction.h"

#include <cmath>

namespace intarsia::storage {
namespace {

class LeastRecentlyUsedPolicy : public KvEvictionPolicy {
 public:
  double Worth(const KvEvictionCandidate& candidate) const override {
    const auto age = static_cast<double>(candidate.now - candidate.last_use);
    const auto num_uses = static_cast<double>(candidate.num_uses == 0 ? 1 : candidate.num_uses);
    return -age / std::sqrt(num_uses);
  }
};

}  // namespace

const KvEvictionPolicy* KvEvictionPolicy::LeastRecentlyUsed() {
  static const LeastRecentlyUsedPolicy policy;
  return &policy;
}

}  // namespace intarsia::storage
