// The tier of KV caches in memory: what it holds, what it gives up, and that it is never wrong.
#include "storage/kv_memory.h"

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

KvEntry EntryOf(int number, int64_t layer_bytes = 1'000, int64_t num_tokens = 100) {
  KvEntry entry;
  entry.identity = DigestOf("cache " + std::to_string(number));
  entry.shape = {.num_layers = 2, .num_tokens = num_tokens, .quantizer = 3};
  for (int64_t layer = 0; layer < 2; ++layer) {
    entry.extents.push_back({.offset = 0, .num_bytes = layer_bytes, .checksum = {}});
  }
  return entry;
}
constexpr int64_t kEntryBytes = 2 * 1'024;  // two layers, aligned

TEST(KvMemoryTest, ACacheIsHeldWhenItIsAskedForTwice) {
  KvMemory memory(10 * kEntryBytes);
  EXPECT_EQ(memory.Use(EntryOf(1)), nullptr);
  const auto held = memory.Use(EntryOf(1));
  ASSERT_NE(held, nullptr);
  std::vector<uint8_t> target(1'000);
  EXPECT_FALSE(held->Read(1, target));
  const std::vector<uint8_t> payload(1'000, 7);
  held->Keep(1, payload);
  ASSERT_TRUE(held->Read(1, target));
  EXPECT_EQ(target, payload);
  EXPECT_FALSE(held->Read(0, target));
  EXPECT_EQ(memory.Use(EntryOf(1)), held);
  const KvMemoryStats stats = memory.stats();
  EXPECT_EQ(stats.hits, 1);
  EXPECT_EQ(stats.misses, 2);
  EXPECT_EQ(stats.admissions, 1);
  EXPECT_EQ(stats.num_bytes, kEntryBytes);
  EXPECT_EQ(stats.num_pins, 1);
}

TEST(KvMemoryTest, TheBudgetHoldsUnderAnyTraceAndPinsDoNotLeak) {
  KvMemory memory(5 * kEntryBytes);
  std::mt19937 random(3);
  std::vector<std::shared_ptr<KvMemoryEntry>> in_use;
  for (int i = 0; i < 5'000; ++i) {
    auto held = memory.Use(EntryOf(static_cast<int>(random() % 20), 500 + 250 * (random() % 3)));
    if (random() % 4 == 0) in_use.push_back(std::move(held));
    if (in_use.size() > 4) in_use.erase(in_use.begin());
    ASSERT_LE(memory.stats().num_bytes, 5 * kEntryBytes);
  }
  in_use.clear();
  EXPECT_EQ(memory.stats().num_pins, 0);
  EXPECT_GT(memory.stats().evictions, 0);
  memory.SetBudget(kEntryBytes);
  EXPECT_LE(memory.stats().num_bytes, kEntryBytes);
  memory.SetBudget(0);
  EXPECT_EQ(memory.stats().num_entries, 0);
  EXPECT_EQ(memory.Use(EntryOf(1)), nullptr);
}

TEST(KvMemoryTest, WhatIsHotStaysWhenAScanComesBy) {
  KvMemory memory(4 * kEntryBytes);
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 4; ++i) memory.Use(EntryOf(i));
  }
  for (int i = 100; i < 120; ++i) {
    memory.Use(EntryOf(i));
    memory.Use(EntryOf(i % 4));
    memory.Use(EntryOf(i));
  }
  int num_held = 0;
  for (int i = 0; i < 4; ++i) num_held += memory.Use(EntryOf(i)) != nullptr ? 1 : 0;
  EXPECT_EQ(num_held, 4);
  EXPECT_EQ(memory.stats().evictions, 0);
}

TEST(KvMemoryTest, WhatSavesMoreTimeByTheByteIsKept) {
  KvMemory memory(kEntryBytes);
  const KvEntry cheap = EntryOf(1, 1'000, 10);
  const KvEntry dear = EntryOf(2, 1'000, 1'000);
  memory.Use(cheap);
  EXPECT_NE(memory.Use(cheap), nullptr);
  memory.Use(dear);
  EXPECT_NE(memory.Use(dear), nullptr);
  EXPECT_EQ(memory.Use(cheap), nullptr);
}

TEST(KvMemoryTest, WhatIsInUseIsNotGivenUp) {
  KvMemory memory(kEntryBytes);
  memory.Use(EntryOf(1));
  auto held = memory.Use(EntryOf(1));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(memory.Use(EntryOf(2)), nullptr);
  held.reset();
  EXPECT_NE(memory.Use(EntryOf(2)), nullptr);
}

TEST(KvMemoryTest, FavouritesThatMoveOnAreFollowed) {
  // Ten favourites among forty others; then ten others are the favourites.
  KvMemory memory(10 * kEntryBytes);
  std::mt19937 random(5);
  for (int period = 0; period < 4; ++period) {
    for (int i = 0; i < 3'000; ++i) {
      const int favourite = period * 10 + static_cast<int>(random() % 10);
      memory.Use(EntryOf(i % 4 == 0 ? 100 + static_cast<int>(random() % 40) : favourite));
    }
    const int64_t hits = memory.stats().hits;
    for (int i = 0; i < 10; ++i) memory.Use(EntryOf(period * 10 + i));
    EXPECT_GE(memory.stats().hits - hits, 8) << period;
  }
}

class KvMemoryStoreTest : public KvStoreFixture {
 protected:
  KvMemoryStoreTest() {
    options_.kv_memory_bytes_max = 1 << 20;
    Open();
  }
};

TEST_F(KvMemoryStoreTest, CachesComeFromMemoryAfterTheSecondRead) {
  const auto cache = MakeCache("a");
  PutCache(database_.get(), *cache, AddOwner("a"));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(IsServed(store(), *cache));
  // The bytes on disk are not asked any more.
  for (const std::string& path : SegmentFiles()) FlipBit(path, 8 * 5'000);
  EXPECT_TRUE(IsServed(store(), *cache));
  EXPECT_EQ(store()->memory_stats().hits, 1);
  EXPECT_EQ(store()->memory_stats().num_pins, 0);
  EXPECT_GE(store()->memory_stats().num_bytes, kNumLayers * kLayerBytes);
}

TEST_F(KvMemoryStoreTest, EveryWayOutOfTheStoreLeadsOutOfMemory) {
  const KvOwner owner = AddOwner("a");
  const auto cache = MakeCache("a");
  const auto hold = [&] {
    PutCache(database_.get(), *cache, owner);
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(IsServed(store(), *cache));
    ASSERT_EQ(store()->memory_stats().num_entries, 1);
  };
  const auto expect_gone = [&] {
    EXPECT_FALSE(IsServed(store(), *cache));
    EXPECT_EQ(store()->memory_stats().num_entries, 0);
    EXPECT_EQ(store()->memory_stats().num_bytes, 0);
  };
  hold();
  Must(store()->DeleteByCollection(docs_));
  expect_gone();
  hold();
  Must(store()->DeleteAll());
  expect_gone();
  hold();
  const KvHandle in_use = Must(store()->Find(cache->identity));
  Must(database_->DeleteDocuments({&owner.document, 1}));
  std::vector<uint8_t> target(kLayerBytes);
  EXPECT_EQ(store()->ReadLayer(in_use, 0, target).code(), StatusCode::kNotFound);
  expect_gone();
}

TEST_F(KvMemoryStoreTest, ManyThreadsReadWhatWasPut) {
  std::vector<std::unique_ptr<SampleCache>> caches;
  for (int i = 0; i < 8; ++i) {
    caches.push_back(MakeCache(std::to_string(i)));
    PutCache(database_.get(), *caches.back(), AddOwner(std::to_string(i)));
  }
  EXPECT_TRUE(store()->SetMemoryBudget(3 * kNumLayers * 10'048).ok());
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 3; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 200; ++i) EXPECT_TRUE(IsServed(store(), *caches[random() % 8]));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(store()->memory_stats().num_bytes, 3 * kNumLayers * 10'048);
  EXPECT_GT(store()->memory_stats().hits, 0);
  EXPECT_EQ(store()->memory_stats().num_pins, 0);
}

}  // namespace
}  // namespace intarsia::storage
