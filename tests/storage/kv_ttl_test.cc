// Caches that are too old: absent for all who ask, and removed when there is time for it.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/erasure.h"
#include "storage/kv_entry.h"
#include "storage/kv_store.h"
#include "tests/storage/kv_store_fixture.h"
#include "tests/storage/manual_clock.h"

namespace intarsia::storage {
namespace {

class KvTtlTest : public KvStoreFixture {
 protected:
  KvTtlTest() {
    options_.clock = &clock_;
    options_.kv_memory_bytes_max = 1 << 20;
    OpenWithTtl();
  }
  void OpenWithTtl() {
    Open();
    store()->SetTtl(docs_, 100);
  }
  KvOwner AddCached(const std::string& name) {
    const KvOwner owner = AddOwner(name);
    EXPECT_EQ(PutCache(database_.get(), *MakeCache(name), owner), KvPutOutcome::kStored);
    return owner;
  }

  ManualClock clock_;
};

TEST_F(KvTtlTest, AnOldCacheIsAbsentAndThenRemoved) {
  AddCached("a");
  clock_.Advance(60);
  AddCached("b");
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  clock_.Advance(39);
  EXPECT_TRUE(store()->Contains(DigestOf("a")));
  clock_.Advance(1);
  EXPECT_FALSE(store()->Contains(DigestOf("a")));
  EXPECT_FALSE(IsServed(store(), *MakeCache("a")));
  EXPECT_EQ(store()->stats().misses, 1);
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
  EXPECT_EQ(Must(store()->UsageOfCollection(docs_)).num_entries, 1);
  EXPECT_EQ(Must(store()->DropExpired()), 1);
  EXPECT_EQ(Must(store()->DropExpired()), 0);
  EXPECT_EQ(store()->stats().num_entries, 1);
  EXPECT_EQ(store()->stats().expirations, 1);
  EXPECT_EQ(store()->stats().evictions, 0);
  EXPECT_GT(Must(store()->Compact({.dead_share_min = 0.1})), 0);
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
}

TEST_F(KvTtlTest, AgeIsKeptAcrossRestartsAndUses) {
  AddCached("a");
  clock_.Advance(50);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  OpenWithTtl();
  clock_.Advance(49);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  OpenWithTtl();
  clock_.Advance(1);
  EXPECT_FALSE(IsServed(store(), *MakeCache("a")));
  // Another limit counts for what is there, too.
  store()->SetTtl(docs_, 1'000);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  store()->SetTtl(docs_, 0);
  clock_.Advance(1'000'000);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_EQ(Must(store()->DropExpired()), 0);
}

TEST_F(KvTtlTest, AnOldCacheIsStoredAnew) {
  const KvOwner owner = AddCached("a");
  clock_.Advance(100);
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("a"), owner), KvPutOutcome::kStored);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_EQ(store()->stats().num_entries, 1);
  EXPECT_EQ(store()->stats().expirations, 1);
  clock_.Advance(99);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  OpenWithTtl();
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_EQ(Must(store()->DeleteByDocument(owner.collection, owner.document)), 1);
}

TEST_F(KvTtlTest, OtherCollectionsAndPinnedCachesDoNotGrowOld) {
  const KvOwner pinned = AddCached("pinned");
  const CollectionId other = Must(database_->CreateCollection(SampleCollection("other")));
  const StoredDocument stored =
      PutOne(database_.get(), other, SampleDocument("b", "text", 0)).front();
  PutCache(database_.get(), *MakeCache("b"),
           {.collection = other, .document = stored.id, .chunk = stored.first_chunk, .model = 0});
  PutCache(database_.get(), *MakeCache("header"), {});
  Must(store()->Retain(std::vector<KvOwner>{pinned}, KvRetention::kOnDisk));
  clock_.Advance(1'000);
  for (const char* name : {"pinned", "b", "header"}) {
    EXPECT_TRUE(IsServed(store(), *MakeCache(name))) << name;
  }
  EXPECT_EQ(Must(store()->DropExpired()), 0);
  Must(store()->Retain(std::vector<KvOwner>{pinned}, KvRetention::kEvictable));
  EXPECT_FALSE(store()->Contains(DigestOf("pinned")));
}

TEST_F(KvTtlTest, WhatIsOldGoesBeforeWhatIsNot) {
  ASSERT_TRUE(store()->SetBudget(6 * kCacheDiskBytes).ok());
  for (int i = 0; i < 3; ++i) AddCached("old" + std::to_string(i));
  clock_.Advance(100);
  for (int i = 0; i < 4; ++i) AddCached("new" + std::to_string(i));
  EXPECT_EQ(store()->stats().expirations, 3);
  EXPECT_EQ(store()->stats().evictions, 0);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(IsServed(store(), *MakeCache("new" + std::to_string(i))));
  }
}

TEST_F(KvTtlTest, CompactionFreesSegmentsThatHoldOldCaches) {
  AddCached("old");
  const KvOwner dead = AddCached("dead");
  clock_.Advance(100);
  ASSERT_EQ(Must(database_->DeleteDocuments({&dead.document, 1})), 1);
  const int64_t disk_before = DiskBytes();
  EXPECT_GE(Must(store()->Compact({.dead_share_min = 0.1})), kCacheDiskBytes);
  EXPECT_EQ(store()->stats().dead_bytes, 0);
  EXPECT_EQ(DiskBytes(), disk_before - kCacheDiskBytes);
  // It moved as it was: of another age, it is served again.
  store()->SetTtl(docs_, 1'000);
  EXPECT_TRUE(IsServed(store(), *MakeCache("old")));
}

TEST_F(KvTtlTest, RoomIsMadeBesideOldCaches) {
  AddCached("old");
  const KvOwner dead = AddCached("dead");
  clock_.Advance(100);
  Must(database_->DeleteDocuments({&dead.document, 1}));
  // What lives and the new cache fit; what is dead has to go.
  ASSERT_TRUE(store()->SetBudget(2 * kCacheDiskBytes + 2 * kKvAlignment).ok());
  AddCached("new");
  EXPECT_TRUE(IsServed(store(), *MakeCache("new")));
  EXPECT_EQ(store()->stats().expirations, 0);
  EXPECT_LE(DiskBytes(), 2 * kCacheDiskBytes + 2 * kKvAlignment);
}

TEST_F(KvTtlTest, DocumentsAreErasedBesideOldCaches) {
  AddCached("old");
  const KvOwner secret = AddCached("secret");
  clock_.Advance(100);
  const auto report = database_->Erase({&secret.document, 1}, {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->num_caches, 1);
  const std::string piece = MakeCache("secret")->payloads[0].substr(100, 40);
  for (const std::string& path : SegmentFiles()) {
    EXPECT_EQ(ReadFile(path).find(piece), std::string::npos) << path;
  }
}

TEST_F(KvTtlTest, WhatIsInUseIsRemovedLater) {
  AddCached("a");
  {
    const KvHandle handle = Must(store()->Find(DigestOf("a")));
    clock_.Advance(100);
    EXPECT_EQ(Must(store()->DropExpired()), 0);
    std::vector<uint8_t> target(kLayerBytes);
    EXPECT_TRUE(store()->ReadLayer(handle, 0, target).ok());
  }
  EXPECT_EQ(Must(store()->DropExpired()), 1);
}

}  // namespace
}  // namespace intarsia::storage
