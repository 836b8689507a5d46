// Caches that stay because the user wants them to: budgets, memory, restarts, and what ends it.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/kv_store.h"
#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kMemoryBytes = kNumLayers * 10'048;  // of one cache, each layer aligned

class KvRetainTest : public KvStoreFixture {
 protected:
  KvRetainTest() {
    options_.kv_memory_bytes_max = 4 * kMemoryBytes;
    options_.kv_bytes_max = 8 * kCacheDiskBytes;
    Open();
  }

  // A document of one chunk with its cache, which has the document's name.
  KvOwner AddCached(const std::string& name) {
    const KvOwner owner = AddOwner(name);
    EXPECT_EQ(PutCache(database_.get(), *MakeCache(name), owner), KvPutOutcome::kStored);
    return owner;
  }
  KvRetained Retain(const std::vector<KvOwner>& chunks, KvRetention retention) {
    return Must(store()->Retain(chunks, retention));
  }
  // Puts so many caches that everything goes that may go.
  void Flood(const std::string& name) {
    for (int i = 0; i < 20; ++i) {
      PutCache(database_.get(), *MakeCache(name + std::to_string(i)), {});
    }
  }
};

TEST_F(KvRetainTest, WhatIsRetainedOnDiskOutlivesEverythingElse) {
  const KvOwner a = AddCached("a");
  const KvOwner b = AddCached("b");
  AddCached("c");
  const KvRetained retained = Retain({a, b}, KvRetention::kOnDisk);
  EXPECT_EQ(retained.num_changed, 2);
  EXPECT_EQ(retained.num_missing, 0);
  EXPECT_EQ(retained.num_bytes, 2 * kNumLayers * kLayerBytes);
  EXPECT_EQ(Retain({a, b}, KvRetention::kOnDisk).num_unchanged, 2);
  Flood("x");
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
  EXPECT_FALSE(store()->Contains(DigestOf("c")));
  EXPECT_LE(DiskBytes(), options_.kv_bytes_max);
  EXPECT_EQ(store()->stats().num_retained, 2);
  EXPECT_EQ(store()->stats().retained_bytes, 2 * kCacheDiskBytes);
  EXPECT_EQ(Must(store()->UsageOfCollection(docs_)).num_retained, 2);

  EXPECT_EQ(Retain({a}, KvRetention::kEvictable).num_changed, 1);
  Flood("y");
  EXPECT_FALSE(store()->Contains(DigestOf("a")));
  EXPECT_TRUE(store()->Contains(DigestOf("b")));
}

TEST_F(KvRetainTest, RetentionSurvivesReopeningAndCompaction) {
  const KvOwner a = AddCached("a");
  const KvOwner b = AddCached("b");
  Retain({a}, KvRetention::kOnDisk);
  Retain({b}, KvRetention::kInMemory);
  Open();
  EXPECT_EQ(store()->stats().num_retained, 2);
  EXPECT_EQ(store()->memory_stats().num_retained, 1);
  EXPECT_EQ(store()->memory_stats().retained_bytes, kMemoryBytes);
  ASSERT_TRUE(store()->Compact({.dead_share_min = 0.001}).ok());
  Flood("x");
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
  // Its first use brought it into memory.
  EXPECT_EQ(store()->memory_stats().num_bytes, kMemoryBytes);
}

TEST_F(KvRetainTest, WhatIsRetainedInMemoryComesAtOnceAndStays) {
  const KvOwner a = AddCached("a");
  const KvOwner b = AddCached("b");
  Retain({a, b}, KvRetention::kInMemory);
  ASSERT_TRUE(store()->LoadRetained(nullptr).ok());
  EXPECT_EQ(store()->memory_stats().num_bytes, 2 * kMemoryBytes);
  for (int i = 0; i < 4; ++i) PutCache(database_.get(), *MakeCache(std::to_string(i)), {});
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(IsServed(store(), *MakeCache(std::to_string(i))));
    ASSERT_LE(store()->memory_stats().num_bytes, options_.kv_memory_bytes_max);
  }
  // Their bytes on disk are not asked.
  for (const std::string& path : SegmentFiles()) FlipBit(path, 8 * 5'000);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
  EXPECT_EQ(store()->stats().num_pins, 0);
  EXPECT_EQ(store()->memory_stats().num_pins, 0);
}

TEST_F(KvRetainTest, WhatDoesNotFitIsRefusedAsAWhole) {
  std::vector<KvOwner> chunks;
  for (int i = 0; i < 5; ++i) chunks.push_back(AddCached(std::to_string(i)));
  const auto refused = store()->Retain(chunks, KvRetention::kInMemory);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("TIER DISK"), std::string::npos) << refused.status();
  EXPECT_EQ(store()->stats().num_retained, 0);
  EXPECT_EQ(store()->memory_stats().num_retained, 0);
  Retain(chunks, KvRetention::kOnDisk);
  // A budget below it is refused, too, and a larger one is not.
  const Status too_small = store()->SetBudget(3 * kCacheDiskBytes);
  EXPECT_EQ(too_small.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(store()->stats().bytes_max, options_.kv_bytes_max);
  EXPECT_TRUE(store()->SetBudget(9 * kCacheDiskBytes).ok());
  Retain({chunks[0]}, KvRetention::kInMemory);
  EXPECT_EQ(store()->SetMemoryBudget(0).code(), StatusCode::kResourceExhausted);
  Retain(chunks, KvRetention::kEvictable);
  EXPECT_TRUE(store()->SetMemoryBudget(0).ok());
  EXPECT_TRUE(store()->SetBudget(kCacheDiskBytes).ok());
}

TEST_F(KvRetainTest, ABudgetThatIsSmallerAfterReopeningStillHolds) {
  std::vector<KvOwner> chunks;
  for (int i = 0; i < 4; ++i) chunks.push_back(AddCached(std::to_string(i)));
  Retain(chunks, KvRetention::kInMemory);
  options_.kv_memory_bytes_max = 2 * kMemoryBytes;
  options_.kv_bytes_max = 3 * kCacheDiskBytes;
  Open();
  ASSERT_TRUE(store()->LoadRetained(nullptr).ok());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(IsServed(store(), *MakeCache(std::to_string(i))));
  EXPECT_EQ(store()->memory_stats().num_bytes, 2 * kMemoryBytes);
  EXPECT_EQ(store()->memory_stats().num_retained, 4);
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("x"), {}), KvPutOutcome::kOverBudget);
}

TEST_F(KvRetainTest, RetentionGoesWithItsCache) {
  const KvOwner a = AddCached("a");
  const KvOwner b = AddCached("b");
  const KvOwner c = AddCached("c");
  Retain({a, b, c}, KvRetention::kInMemory);
  ASSERT_TRUE(store()->LoadRetained(nullptr).ok());
  EXPECT_EQ(Must(database_->DeleteDocuments(std::vector<DocumentId>{a.document})), 1);
  EXPECT_EQ(store()->stats().num_retained, 2);
  EXPECT_EQ(store()->memory_stats().num_retained, 2);
  EXPECT_EQ(store()->memory_stats().num_bytes, 2 * kMemoryBytes);
  EXPECT_EQ(Must(store()->DeleteAll()), 2);
  EXPECT_EQ(store()->stats().retained_bytes, 0);
  EXPECT_EQ(store()->memory_stats().retained_bytes, 0);
  // The same cache, stored again, is like any other.
  PutCache(database_.get(), *MakeCache("b"), b);
  EXPECT_EQ(store()->stats().num_retained, 0);
  Open();
  EXPECT_EQ(store()->stats().num_retained, 0);
  EXPECT_EQ(Retain({b, c}, KvRetention::kOnDisk).num_missing, 1);
}

TEST_F(KvRetainTest, ADamagedCacheIsDroppedWithItsRetention) {
  const KvOwner a = AddCached("a");
  Retain({a}, KvRetention::kOnDisk);
  for (const std::string& path : SegmentFiles()) FlipBit(path, 8 * 5'000);
  EXPECT_FALSE(IsServed(store(), *MakeCache("a")));
  EXPECT_EQ(store()->stats().num_retained, 0);
  EXPECT_EQ(store()->stats().quarantines, 1);
  Open();
  EXPECT_EQ(store()->stats().num_retained, 0);
}

TEST_F(KvRetainTest, OnlyChunksAreAccepted) {
  const KvOwner a = AddCached("a");
  KvOwner whole = a;
  whole.chunk = 0;
  EXPECT_EQ(store()->Retain(std::vector<KvOwner>{whole}, KvRetention::kOnDisk).status().code(),
            StatusCode::kInvalidArgument);
  options_.access = AccessMode::kReadOnly;
  Open();
  EXPECT_EQ(store()->Retain(std::vector<KvOwner>{a}, KvRetention::kOnDisk).status().code(),
            StatusCode::kUnsupported);
  EXPECT_TRUE(store()->LoadRetained(nullptr).ok());
}

}  // namespace
}  // namespace intarsia::storage
