// MemoryPool: large blocks of memory that pass from one request to the next.
//
// The system zeroes fresh memory page by page when it is first touched, which takes a request about
// as long as reading its caches. A pool keeps what requests give back, up to a bound, and the
// system may take the pages of idle blocks whenever it needs them (MADV_FREE).
//
// Thread safety: thread-safe.
// Lifetime: shared with the arrays that came from it (base/aligned_array.h).
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace intarsia {

struct MemoryBlock {
  void* data = nullptr;
  int64_t num_bytes = 0;
};

class MemoryPool {
 public:
  // Blocks below this size are not worth keeping.
  static constexpr int64_t kBlockBytesMin = int64_t{4} << 20;

  // Keeps at most `idle_bytes_max` >= 0 of idle blocks; 0 keeps none.
  explicit MemoryPool(int64_t idle_bytes_max);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // A block of at least `num_bytes` > 0, aligned to 2 MiB, with whatever it held before; `data` is
  // null if memory ran out.
  MemoryBlock Take(int64_t num_bytes);
  // Gives back what Take returned.
  void Give(const MemoryBlock& block);

  int64_t idle_bytes() const;

  // A block from the system and back, past any pool: aligned to 2 MiB from kBlockBytesMin on and to
  // a cache line below. `data` is null if memory ran out.
  static MemoryBlock Allocate(int64_t num_bytes);
  static void Free(const MemoryBlock& block);

 private:
  const int64_t idle_bytes_max_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<MemoryBlock> idle_;  // the longest idle first
  int64_t idle_bytes_ = 0;
};

}  // namespace intarsia
