#include "base/memory_pool.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned_array.h"

namespace intarsia {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

TEST(MemoryPoolTest, ABlockComesBackToTheNextRequestOfAboutItsSize) {
  MemoryPool pool(100 * kMiB);
  const MemoryBlock block = pool.Take(17 * kMiB);
  ASSERT_NE(block.data, nullptr);
  EXPECT_GE(block.num_bytes, 17 * kMiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data) % (2 * kMiB), 0u);
  std::memset(block.data, 7, static_cast<size_t>(block.num_bytes));
  pool.Give(block);
  EXPECT_EQ(pool.idle_bytes(), block.num_bytes);
  const MemoryBlock again = pool.Take(16 * kMiB);
  EXPECT_EQ(again.data, block.data);
  EXPECT_EQ(pool.idle_bytes(), 0);
  std::memset(again.data, 8, static_cast<size_t>(again.num_bytes));
  pool.Give(again);
}

TEST(MemoryPoolTest, ALargeBlockIsNotSpentOnASmallRequest) {
  MemoryPool pool(100 * kMiB);
  const MemoryBlock large = pool.Take(64 * kMiB);
  pool.Give(large);
  const MemoryBlock small = pool.Take(8 * kMiB);
  EXPECT_NE(small.data, large.data);
  EXPECT_EQ(pool.idle_bytes(), large.num_bytes);
  pool.Give(small);
}

TEST(MemoryPoolTest, KeepsNoMoreThanItsBound) {
  MemoryPool pool(20 * kMiB);
  std::vector<MemoryBlock> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(pool.Take(8 * kMiB));
  for (const MemoryBlock& block : blocks) {
    pool.Give(block);
    EXPECT_LE(pool.idle_bytes(), 20 * kMiB);
  }
  EXPECT_GE(pool.idle_bytes(), 16 * kMiB);
  pool.Give(pool.Take(50 * kMiB));
  EXPECT_GE(pool.idle_bytes(), 16 * kMiB) << "a block above the bound drove others out";
  MemoryPool none(0);
  none.Give(none.Take(8 * kMiB));
  EXPECT_EQ(none.idle_bytes(), 0);
}

TEST(MemoryPoolTest, MoreThanThereIsGivesNothing) {
  MemoryPool pool(kMiB);
  EXPECT_EQ(pool.Take(int64_t{1} << 60).data, nullptr);
  EXPECT_EQ(MemoryPool::Allocate(INT64_MAX).data, nullptr);
}

TEST(MemoryPoolTest, ThreadsNeverShareABlock) {
  MemoryPool pool(64 * kMiB);
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&pool, thread] {
      for (int round = 0; round < 50; ++round) {
        const MemoryBlock block = pool.Take((4 + thread) * kMiB);
        auto* const value = static_cast<volatile int64_t*>(block.data);
        *value = thread;
        std::this_thread::yield();
        EXPECT_EQ(*value, thread);
        pool.Give(block);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MemoryPoolTest, ArraysGiveTheirMemoryBackAndMayOutliveTheLastOwner) {
  auto pool = std::make_shared<MemoryPool>(100 * kMiB);
  const void* first = nullptr;
  {
    auto array = AlignedArray<float>::TryCreate(2 * kMiB, pool);
    ASSERT_TRUE(array.ok());
    first = array->data();
    EXPECT_EQ(array->size(), 2 * kMiB);
    AlignedArray<float> moved = *std::move(array);
    EXPECT_EQ(moved.data(), first);
    EXPECT_EQ(pool->idle_bytes(), 0);
  }
  EXPECT_GE(pool->idle_bytes(), 8 * kMiB);
  auto again = AlignedArray<float>::TryCreate(2 * kMiB, pool);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->data(), first);
  pool.reset();
  (*again)[0] = 1.0F;
}

TEST(MemoryPoolTest, SmallArraysDoNotComeFromAPool) {
  auto pool = std::make_shared<MemoryPool>(100 * kMiB);
  { const auto array = AlignedArray<float>::TryCreate(1000, pool); }
  EXPECT_EQ(pool->idle_bytes(), 0);
}

}  // namespace
}  // namespace intarsia
