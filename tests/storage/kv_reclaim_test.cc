// Budget, eviction and compaction of a KvStore.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/kv_entry.h"
#include "storage/kv_store.h"
#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

using KvReclaimTest = KvStoreFixture;

TEST_F(KvReclaimTest, BudgetEvictsTheLeastRecentlyUsedAndBoundsTheFiles) {
  options_.kv_bytes_max = 20 * kCacheDiskBytes;
  Open();
  const auto hot = MakeCache("hot");
  PutCache(database_.get(), *hot, {});
  for (int i = 0; i < 100; ++i) {
    const auto cache = MakeCache("c" + std::to_string(i));
    ASSERT_EQ(PutCache(database_.get(), *cache, {}), KvPutOutcome::kStored) << i;
    ASSERT_TRUE(IsServed(store(), *hot)) << i;
    ASSERT_TRUE(IsServed(store(), *cache)) << i;
    ASSERT_LE(DiskBytes(), options_.kv_bytes_max) << i;
  }
  const KvStats stats = store()->stats();
  EXPECT_GT(stats.num_entries, 12);
  EXPECT_EQ(stats.evictions, 101 - stats.num_entries);
  EXPECT_EQ(DiskBytes(), stats.live_bytes + stats.dead_bytes + 4096 * stats.num_segments);
  EXPECT_TRUE(IsServed(store(), *MakeCache("c99")));
  EXPECT_FALSE(IsServed(store(), *MakeCache("c0")));
}

TEST_F(KvReclaimTest, EvictionLeavesEntriesInUseAlone) {
  options_.kv_bytes_max = 4 * kCacheDiskBytes;
  Open();
  const auto pinned = MakeCache("pinned");
  PutCache(database_.get(), *pinned, {});
  {
    const KvHandle handle = Must(store()->Find(pinned->identity));
    for (int i = 0; i < 10; ++i) PutCache(database_.get(), *MakeCache(std::to_string(i)), {});
    EXPECT_TRUE(store()->Contains(pinned->identity));
    std::vector<uint8_t> target(kLayerBytes);
    EXPECT_TRUE(store()->ReadLayer(handle, 2, target).ok());
    EXPECT_EQ(store()->stats().num_pins, 1);
    // With everything in use there is no room.
    EXPECT_TRUE(store()->SetBudget(kCacheDiskBytes + 8192).ok());
    EXPECT_EQ(PutCache(database_.get(), *MakeCache("x"), {}), KvPutOutcome::kOverBudget);
  }
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("x"), {}), KvPutOutcome::kStored);
  EXPECT_FALSE(store()->Contains(pinned->identity));
  EXPECT_TRUE(store()->SetBudget(kCacheDiskBytes).ok());
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("y"), {}), KvPutOutcome::kOverBudget);
}

TEST_F(KvReclaimTest, ShrinkBringsTheFilesWithinASmallerBudget) {
  options_.kv_segment_bytes_max = 5 * kCacheDiskBytes;
  Open();
  for (int i = 0; i < 20; ++i) PutCache(database_.get(), *MakeCache(std::to_string(i)), {});
  EXPECT_EQ(Must(store()->Shrink(nullptr)).bytes_freed, 0);
  // Every other one is used again, so that what goes lies all over the segments.
  for (int i = 0; i < 20; i += 2) EXPECT_TRUE(IsServed(store(), *MakeCache(std::to_string(i))));
  const int64_t disk_bytes_before = DiskBytes();
  const int64_t budget = 9 * kCacheDiskBytes;
  ASSERT_TRUE(store()->SetBudget(budget).ok());
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(store()->Shrink(&cancel).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(DiskBytes(), disk_bytes_before);
  const KvShrunk shrunk = Must(store()->Shrink(nullptr));
  EXPECT_LE(DiskBytes(), budget);
  EXPECT_EQ(shrunk.bytes_freed, disk_bytes_before - DiskBytes());
  EXPECT_EQ(shrunk.bytes_above, 0);
  const KvStats stats = store()->stats();
  EXPECT_EQ(shrunk.num_removed, 20 - stats.num_entries);
  EXPECT_EQ(stats.evictions, shrunk.num_removed);
  EXPECT_GT(stats.num_entries, 5);
  for (int i = 1; i < 20; i += 2) EXPECT_FALSE(store()->Contains(DigestOf(std::to_string(i))));
  EXPECT_TRUE(IsServed(store(), *MakeCache("18")));
  Open();
  EXPECT_EQ(store()->stats().num_entries, stats.num_entries);
  EXPECT_TRUE(IsServed(store(), *MakeCache("18")));
  options_.access = AccessMode::kReadOnly;
  Open();
  EXPECT_EQ(store()->Shrink(nullptr).status().code(), StatusCode::kUnsupported);
}

TEST_F(KvReclaimTest, ShrinkLeavesWhatIsInUseAndSaysHowMuchThatIs) {
  for (int i = 0; i < 4; ++i) PutCache(database_.get(), *MakeCache(std::to_string(i)), {});
  ASSERT_TRUE(store()->SetBudget(kCacheDiskBytes).ok());
  {
    const KvHandle handle = Must(store()->Find(DigestOf("1")));
    const KvShrunk shrunk = Must(store()->Shrink(nullptr));
    EXPECT_EQ(shrunk.num_removed, 3);
    EXPECT_EQ(shrunk.bytes_above, kKvAlignment);
    EXPECT_EQ(DiskBytes(), kCacheDiskBytes + kKvAlignment);
    std::vector<uint8_t> target(kLayerBytes);
    EXPECT_TRUE(store()->ReadLayer(handle, 2, target).ok());
  }
  const KvShrunk rest = Must(store()->Shrink(nullptr));
  EXPECT_EQ(rest.num_removed, 1);
  EXPECT_EQ(rest.bytes_above, 0);
  EXPECT_EQ(DiskBytes(), 0);
}

TEST_F(KvReclaimTest, UsesSurviveReopening) {
  options_.kv_bytes_max = 8 * kCacheDiskBytes;
  Open();
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    PutCache(database_.get(), *MakeCache(name), {});
  }
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  Open();
  for (const char* name : {"f", "g", "h", "i"}) PutCache(database_.get(), *MakeCache(name), {});
  EXPECT_TRUE(store()->Contains(DigestOf("a")));
  EXPECT_FALSE(store()->Contains(DigestOf("b")));
}

class SmallestFirst : public KvEvictionPolicy {
 public:
  double Worth(const KvEvictionCandidate& candidate) const override {
    return static_cast<double>(candidate.num_bytes);
  }
};

TEST_F(KvReclaimTest, PolicyDecidesWhatGoes) {
  const SmallestFirst policy;
  options_.kv_bytes_max = 6 * kCacheDiskBytes;
  options_.kv_eviction = &policy;
  Open();
  const SampleCache small("small", 1, 100);
  PutCache(database_.get(), *MakeCache("old"), {});
  PutCache(database_.get(), small, {});
  for (const char* name : {"b", "c", "d", "e", "f"}) {
    PutCache(database_.get(), *MakeCache(name), {});
  }
  EXPECT_GT(store()->stats().evictions, 0);
  EXPECT_FALSE(store()->Contains(small.identity));
  database_.reset();
}

TEST_F(KvReclaimTest, CompactionReturnsDeadBytesAndKeepsTheLiving) {
  options_.kv_segment_bytes_max = 4 * kCacheDiskBytes;
  Open();
  std::vector<KvOwner> owners;
  for (int i = 0; i < 12; ++i) {
    owners.push_back(AddOwner(std::to_string(i)));
    PutCache(database_.get(), *MakeCache(std::to_string(i)), owners.back());
  }
  EXPECT_GE(SegmentFiles().size(), 3U);
  const KvHandle pinned = Must(store()->Find(DigestOf("3")));
  std::vector<DocumentId> gone;
  for (size_t i = 0; i < 12; ++i) {
    if (i % 4 != 3) gone.push_back(owners[i].document);
  }
  Must(database_->DeleteDocuments(gone));
  EXPECT_EQ(store()->stats().num_entries, 3);
  const int64_t disk_before = DiskBytes();
  const int64_t dead_before = store()->stats().dead_bytes;
  // Three caches fill a segment; the one whose caches all went is gone already.
  EXPECT_EQ(dead_before, 6 * kCacheDiskBytes);
  const int64_t freed = Must(store()->Compact({.dead_share_min = 0.5}));
  EXPECT_GE(freed, dead_before);
  EXPECT_LE(DiskBytes(), disk_before - dead_before);
  EXPECT_EQ(store()->stats().dead_bytes, 0);
  // The file that the handle has open is gone from the directory and still readable.
  std::vector<uint8_t> target(kLayerBytes);
  EXPECT_TRUE(store()->ReadLayer(pinned, 0, target).ok());
  for (const char* name : {"3", "7", "11"}) EXPECT_TRUE(IsServed(store(), *MakeCache(name)));
  EXPECT_EQ(Must(store()->Compact({.dead_share_min = 0.5})), 0);
}

TEST_F(KvReclaimTest, CompactionDropsDamagedEntries) {
  PutCache(database_.get(), *MakeCache("a"), {});
  PutCache(database_.get(), *MakeCache("b"), AddOwner("b"));
  PutCache(database_.get(), *MakeCache("c"), {});
  FlipBit(SegmentFiles().front(), 8 * int64_t{5000});
  Must(store()->DeleteByModel(model_));
  Must(store()->Compact({.dead_share_min = 0.1}));
  EXPECT_FALSE(store()->Contains(DigestOf("a")));
  EXPECT_EQ(store()->stats().quarantines, 1);
  EXPECT_TRUE(IsServed(store(), *MakeCache("c")));
  Open();
  EXPECT_TRUE(IsServed(store(), *MakeCache("c")));
}

TEST_F(KvReclaimTest, CompactionOnAFullDiskLosesNothing) {
  PutCache(database_.get(), *MakeCache("a"), {});
  PutCache(database_.get(), *MakeCache("b"), AddOwner("b"));
  Must(store()->DeleteByModel(model_));
  file_system_.Grant(10'000);
  EXPECT_EQ(store()->Compact({.dead_share_min = 0.1}).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  file_system_.GrantAll();
  EXPECT_GT(Must(store()->Compact({.dead_share_min = 0.1})), 0);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
}

}  // namespace
}  // namespace intarsia::storage
