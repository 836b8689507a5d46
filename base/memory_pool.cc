#include "base/memory_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include <sys/mman.h>

#include "base/check.h"

namespace intarsia {
namespace {

constexpr int64_t kCacheLineBytes = 64;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

// Up to an eighth more than asked for, so that the next request's blocks, which are about as large,
// fit. What is not touched takes address space only.
int64_t Rounded(int64_t num_bytes) {
  const auto eighth = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_bytes)) / 8);
  const int64_t step = std::max(kHugePageBytes, eighth);
  return (num_bytes + step - 1) / step * step;
}

}  // namespace

MemoryPool::MemoryPool(int64_t idle_bytes_max) : idle_bytes_max_(idle_bytes_max) {
  INTARSIA_CHECK(idle_bytes_max >= 0);
}

MemoryPool::~MemoryPool() {
  for (const MemoryBlock& block : idle_) Free(block);
}

MemoryBlock MemoryPool::Allocate(int64_t num_bytes) {
  INTARSIA_CHECK(num_bytes > 0);
  if (num_bytes > std::numeric_limits<int64_t>::max() / 2) return {};
  const int64_t alignment = num_bytes >= kBlockBytesMin ? kHugePageBytes : kCacheLineBytes;
  const int64_t rounded = (num_bytes + alignment - 1) / alignment * alignment;
  void* const data =
      std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded));
  if (data == nullptr) return {};
  // Advice only: a kernel without huge pages refuses, and nothing changes.
  if (alignment == kHugePageBytes) ::madvise(data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  return {.data = data, .num_bytes = rounded};
}

void MemoryPool::Free(const MemoryBlock& block) { std::free(block.data); }

MemoryBlock MemoryPool::Take(int64_t num_bytes) {
  INTARSIA_CHECK(num_bytes > 0);
  {
    const std::scoped_lock lock(mutex_);
    auto best = idle_.end();
    for (auto block = idle_.begin(); block != idle_.end(); ++block) {
      // A block of twice the size would rather serve a request that needs it.
      if (block->num_bytes < num_bytes || block->num_bytes / 2 > num_bytes) continue;
      if (best == idle_.end() || block->num_bytes < best->num_bytes) best = block;
    }
    if (best != idle_.end()) {
      const MemoryBlock found = *best;
      idle_.erase(best);
      idle_bytes_ -= found.num_bytes;
      return found;
    }
  }
  if (num_bytes > std::numeric_limits<int64_t>::max() / 2) return {};
  return Allocate(Rounded(num_bytes));
}

void MemoryPool::Give(const MemoryBlock& block) {
  std::vector<MemoryBlock> dropped;
  {
    const std::scoped_lock lock(mutex_);
    if (block.num_bytes > idle_bytes_max_) {
      dropped.push_back(block);
    } else {
      // Advice only: where the kernel refuses, the pages stay ours.
      ::madvise(block.data, static_cast<size_t>(block.num_bytes), MADV_FREE);
      idle_.push_back(block);
      idle_bytes_ += block.num_bytes;
    }
    while (idle_bytes_ > idle_bytes_max_) {
      dropped.push_back(idle_.front());
      idle_bytes_ -= idle_.front().num_bytes;
      idle_.erase(idle_.begin());
    }
  }
  for (const MemoryBlock& old : dropped) Free(old);
}

int64_t MemoryPool::idle_bytes() const {
  const std::scoped_lock lock(mutex_);
  return idle_bytes_;
}

}  // namespace intarsia
