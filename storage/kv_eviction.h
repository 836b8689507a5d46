// KvEvictionPolicy: which KV cache to give up when space is short.
//
// Thread safety: const calls may be concurrent.
#pragma once

#include <cstdint>

namespace intarsia::storage {

struct KvEvictionCandidate {
  // Uses are counted over the whole store: `now - last_use` is how many came since, of any entry.
  uint64_t last_use = 0;
  uint64_t now = 0;
  uint64_t num_uses = 0;  // Of this entry. At least 1: the Put.
  int64_t num_bytes = 0;
};

class KvEvictionPolicy {
 public:
  virtual ~KvEvictionPolicy() = default;

  // Worth of keeping the entry; the entries of least worth go first. Not NaN.
  virtual double Worth(const KvEvictionCandidate& candidate) const = 0;

  // Least recently used, where the last use of an entry that was used twice counts as four times
  // nearer, and nine times if it was used more often. Lives as long as the program.
  static const KvEvictionPolicy* LeastRecentlyUsed();
};

}  // namespace intarsia::storage
