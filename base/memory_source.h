// MemorySource, SlabMemory: where large blocks come from that are no ordinary memory, for example
// such as a device copies from by itself.
//
// Thread safety: thread-safe.
// Lifetime: outlives the blocks that were taken from it; whoever holds one shares it.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/memory_pool.h"

namespace intarsia {

class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // A block of `num_bytes` > 0, aligned to a cache line at least; `data` is null if there is none.
  virtual MemoryBlock Take(int64_t num_bytes) = 0;
  // Gives back what Take returned.
  virtual void Give(const MemoryBlock& block) = 0;
};

// Cuts blocks out of slabs, for a source that is slow to ask. A slab that is free as a whole goes
// back, but for one.
class SlabMemory : public MemorySource {
 public:
  // Larger blocks are slabs of their own. All slabs together never take more than `bytes_max`: the
  // last one is smaller. REQUIRES: slab_bytes > 0, bytes_max >= 0.
  SlabMemory(std::unique_ptr<MemorySource> source, int64_t slab_bytes,
             int64_t bytes_max = std::numeric_limits<int64_t>::max());
  // REQUIRES: all blocks were given back.
  ~SlabMemory() override;
  SlabMemory(const SlabMemory&) = delete;
  SlabMemory& operator=(const SlabMemory&) = delete;

  MemoryBlock Take(int64_t num_bytes) override;
  void Give(const MemoryBlock& block) override;

  // Of all slabs.
  int64_t num_bytes() const;

 private:
  using Ranges = std::map<int64_t, int64_t>;  // begin -> end, in bytes of a slab, never touching
  struct Slab {
    MemoryBlock memory;
    Ranges free;
    bool is_free() const {
      return free.size() == 1 && free.begin()->second - free.begin()->first == memory.num_bytes;
    }
  };

  // Null if no range of the slab is large enough.
  static void* TakeFrom(Slab* slab, int64_t num_bytes);
  // What the source may still give. Called with mutex_ held.
  int64_t RoomLocked() const;

  const std::unique_ptr<MemorySource> source_;
  const int64_t slab_bytes_;
  const int64_t bytes_max_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<Slab> slabs_;
};

}  // namespace intarsia
