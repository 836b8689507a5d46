#include "base/memory_source.h"

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

struct Counts {
  int64_t num_blocks = 0;
  int64_t num_bytes = 0;
  int64_t num_takes = 0;
  bool is_empty = false;  // has nothing to give
};

// Ordinary memory that is counted.
class CountedMemory : public MemorySource {
 public:
  explicit CountedMemory(Counts* counts) : counts_(*counts) {}
  MemoryBlock Take(int64_t num_bytes) override {
    if (counts_.is_empty) return {};
    MemoryBlock block = MemoryPool::Allocate(num_bytes);
    block.num_bytes = num_bytes;
    ++counts_.num_takes;
    ++counts_.num_blocks;
    counts_.num_bytes += num_bytes;
    return block;
  }
  void Give(const MemoryBlock& block) override {
    --counts_.num_blocks;
    counts_.num_bytes -= block.num_bytes;
    MemoryPool::Free(block);
  }

 private:
  Counts& counts_;
};

TEST(SlabMemoryTest, BlocksNeverOverlapAndAllComesBack) {
  Counts counts;
  {
    SlabMemory slabs(std::make_unique<CountedMemory>(&counts), 1000);
    std::mt19937 random(1);
    std::map<uint8_t*, std::pair<MemoryBlock, uint8_t>> taken;
    for (int i = 0; i < 3000; ++i) {
      if (taken.empty() || random() % 100 < 55) {
        const int64_t num_bytes = 1 + random() % (random() % 50 == 0 ? 3000 : 300);
        const MemoryBlock block = slabs.Take(num_bytes);
        ASSERT_NE(block.data, nullptr);
        ASSERT_GE(block.num_bytes, num_bytes);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(block.data) % 64, 0U);
        auto* const begin = static_cast<uint8_t*>(block.data);
        const auto next = taken.lower_bound(begin);
        ASSERT_TRUE(next == taken.end() || begin + block.num_bytes <= next->first);
        const auto mark = static_cast<uint8_t>(random());
        std::memset(begin, mark, static_cast<size_t>(block.num_bytes));
        taken[begin] = {block, mark};
      } else {
        auto victim = taken.begin();
        std::advance(victim, random() % taken.size());
        const auto& [block, mark] = victim->second;
        for (int64_t at = 0; at < block.num_bytes; ++at) ASSERT_EQ(victim->first[at], mark);
        slabs.Give(block);
        taken.erase(victim);
      }
      ASSERT_EQ(slabs.num_bytes(), counts.num_bytes);
    }
    for (const auto& [begin, row] : taken) slabs.Give(row.first);
    EXPECT_EQ(counts.num_blocks, 1);
  }
  EXPECT_EQ(counts.num_blocks, 0);
}

TEST(SlabMemoryTest, TheSourceIsAskedOncePerSlab) {
  Counts counts;
  SlabMemory slabs(std::make_unique<CountedMemory>(&counts), 640);
  for (int round = 0; round < 5; ++round) {
    std::vector<MemoryBlock> blocks;
    for (int i = 0; i < 10; ++i) blocks.push_back(slabs.Take(64));
    for (const MemoryBlock& block : blocks) slabs.Give(block);
  }
  EXPECT_EQ(counts.num_takes, 1);
}

TEST(SlabMemoryTest, SlabsStayWithinTheirLimit) {
  Counts counts;
  {
    SlabMemory slabs(std::make_unique<CountedMemory>(&counts), 640, 1000);
    EXPECT_EQ(slabs.Take(1001).data, nullptr);
    const MemoryBlock first = slabs.Take(640);
    const MemoryBlock second = slabs.Take(320);  // in a slab of what is left
    ASSERT_TRUE(first.data != nullptr && second.data != nullptr);
    EXPECT_EQ(counts.num_bytes, 1000);
    EXPECT_EQ(slabs.Take(64).data, nullptr);
    // Two free slabs that are too small make room for one that is not.
    slabs.Give(first);
    slabs.Give(second);
    const MemoryBlock all = slabs.Take(960);
    ASSERT_NE(all.data, nullptr);
    EXPECT_LE(counts.num_bytes, 1000);
    slabs.Give(all);

    std::mt19937 random(1);
    std::vector<MemoryBlock> taken;
    for (int i = 0; i < 1000; ++i) {
      const auto size = static_cast<int64_t>(1 + random() % 400);
      if (const MemoryBlock block = slabs.Take(size); block.data != nullptr) {
        taken.push_back(block);
      } else {
        ASSERT_FALSE(taken.empty());
        std::swap(taken[random() % taken.size()], taken.back());
        slabs.Give(taken.back());
        taken.pop_back();
      }
      ASSERT_LE(counts.num_bytes, 1000);
    }
    for (const MemoryBlock& block : taken) slabs.Give(block);
  }
  EXPECT_EQ(counts.num_blocks, 0);
}

TEST(SlabMemoryTest, WithoutMemoryTheBlockIsNull) {
  Counts counts;
  SlabMemory slabs(std::make_unique<CountedMemory>(&counts), 640);
  EXPECT_EQ(slabs.Take(0).data, nullptr);
  EXPECT_EQ(slabs.Take(INT64_MAX).data, nullptr);
  const MemoryBlock block = slabs.Take(600);
  counts.is_empty = true;
  EXPECT_EQ(slabs.Take(600).data, nullptr);
  slabs.Give(block);
  const MemoryBlock again = slabs.Take(600);
  EXPECT_NE(again.data, nullptr);
  slabs.Give(again);
}

}  // namespace
}  // namespace intarsia
