// ForRanges, PassingSlots, SharedThreshold, Rescorer: what searches of one query and of many share.
//
// A scan shares its slots among threads in ranges, reads filters by blocks of codes, and drops what
// any thread knows to be too low. What it leaves is compared exactly, the most promising first.
//
// Thread safety: SharedThreshold is thread-safe; a Rescorer is owned by one thread.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "index/flat_index.h"
#include "index/prospect_list.h"
#include "index/top_k.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {

// Slots searched by one thread at a time, a multiple of 64.
inline constexpr int64_t kRangeSlots = 16'384;

// Calls body(range, worker) for all ranges of slots.
inline void ForRanges(int64_t num_slots, ThreadPool* pool,
                      const std::function<void(int64_t range, int worker)>& body) {
  const int64_t num_ranges = (num_slots + kRangeSlots - 1) / kRangeSlots;
  if (pool != nullptr && num_ranges > 1) {
    pool->ParallelFor(num_ranges, body);
  } else {
    for (int64_t range = 0; range < num_ranges; ++range) body(range, 0);
  }
}

// The slots of block `block` that pass `filter`, as bits.
inline uint32_t PassingSlots(SlotFilter filter, int64_t block, int64_t num_slots) {
  constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
  constexpr int64_t kWordBlocks = 64 / kBlock;  // blocks that one word of a filter speaks for
  uint32_t bits = 0xFF;
  if (!filter.empty()) {
    const uint64_t word = filter[static_cast<size_t>(block / kWordBlocks)];
    bits = static_cast<uint32_t>(word >> (block % kWordBlocks * kBlock)) & 0xFF;
  }
  const int64_t rest = num_slots - block * kBlock;
  return rest >= kBlock ? bits : bits & ((1U << rest) - 1);
}

// The highest threshold of all threads, so that each drops what any knows to be too low.
class SharedThreshold {
 public:
  float value() const { return value_.load(std::memory_order_relaxed); }
  void RaiseTo(float value) {
    float now = value_.load(std::memory_order_relaxed);
    while (now < value && !value_.compare_exchange_weak(now, value, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<float> value_ = -std::numeric_limits<float>::infinity();
};

// Compares vectors exactly and keeps the best.
class Rescorer {
 public:
  Rescorer(const FlatIndex& rows, const std::vector<float>& query, int64_t k)
      : rows_(rows), query_(query), best_(k) {}

  // Compares `prospects`, the most promising first, until none can enter. Returns how many it
  // compared.
  int64_t Run(std::span<const Prospect> prospects);
  float threshold() const { return best_.threshold(); }
  std::vector<SearchHit> Take() { return best_.Take(); }

 private:
  // Vectors compared exactly before the stop rule is asked again.
  static constexpr int64_t kBatch = 64;

  void Add(std::span<const int64_t> slots);

  const FlatIndex& rows_;
  const std::vector<float>& query_;
  TopK best_;
};

}  // namespace intarsia::index
