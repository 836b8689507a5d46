#include "storage/kv_store.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

using KvStoreTest = KvStoreFixture;

TEST_F(KvStoreTest, PutIsServedAndSurvivesReopening) {
  const auto cache = MakeCache("a");
  const KvOwner owner = AddOwner("a");
  EXPECT_EQ(store()->Find(cache->identity).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(PutCache(database_.get(), *cache, owner), KvPutOutcome::kStored);
  EXPECT_TRUE(IsServed(store(), *cache));
  EXPECT_EQ(PutCache(database_.get(), *cache, owner), KvPutOutcome::kAlreadyStored);
  Open();
  EXPECT_TRUE(store()->Contains(cache->identity));
  EXPECT_TRUE(IsServed(store(), *cache));
  const KvStats stats = store()->stats();
  EXPECT_EQ(stats.num_entries, 1);
  EXPECT_EQ(stats.live_bytes, kCacheDiskBytes);
  EXPECT_EQ(stats.dead_bytes, 0);
  EXPECT_EQ(stats.hits, 1);
  EXPECT_EQ(stats.misses, 0);
  EXPECT_EQ(stats.num_pins, 0);
  EXPECT_EQ(stats.num_segments, 1);
}

TEST_F(KvStoreTest, ExtentsAreAlignedAndAppendedAfterReopening) {
  PutCache(database_.get(), *MakeCache("a"), {});
  EXPECT_EQ(DiskBytes(), 4096 + kCacheDiskBytes);
  Open();
  PutCache(database_.get(), *MakeCache("b"), {});
  EXPECT_EQ(SegmentFiles().size(), 1U);
  EXPECT_EQ(DiskBytes(), 4096 + 2 * kCacheDiskBytes);
  EXPECT_TRUE(IsServed(store(), *MakeCache("a")));
  EXPECT_TRUE(IsServed(store(), *MakeCache("b")));
}

TEST_F(KvStoreTest, BadArgumentsAreRefused) {
  const auto cache = MakeCache("a");
  KvPut put = cache->Put({}, 0);
  put.shape.num_layers = 2;
  EXPECT_EQ(store()->Put(put).status().code(), StatusCode::kInvalidArgument);
  put = cache->Put({.collection = docs_, .document = 1}, 0);
  EXPECT_EQ(store()->Put(put).status().code(), StatusCode::kInvalidArgument);
  PutCache(database_.get(), *cache, {});
  const KvHandle handle = Must(store()->Find(cache->identity));
  std::vector<uint8_t> target(kLayerBytes);
  EXPECT_EQ(store()->ReadLayer(handle, kNumLayers, target).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store()->ReadLayer(handle, -1, target).code(), StatusCode::kInvalidArgument);
  target.resize(5);
  EXPECT_EQ(store()->ReadLayer(handle, 0, target).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store()->Compact({.dead_share_min = 0.0}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(KvStoreTest, CacheGoesWithItsLastChunk) {
  const auto cache = MakeCache("shared");
  const KvOwner first = AddOwner("a");
  const KvOwner second = AddOwner("b");
  PutCache(database_.get(), *cache, first);
  EXPECT_EQ(PutCache(database_.get(), *cache, second), KvPutOutcome::kAlreadyStored);
  EXPECT_EQ(Must(store()->UsageOfCollection(docs_)).num_entries, 1);
  Must(database_->DeleteDocuments({{first.document}}));
  EXPECT_TRUE(IsServed(store(), *cache));
  AddOwner("b");  // Replaces the second.
  EXPECT_FALSE(store()->Contains(cache->identity));
  EXPECT_EQ(Must(store()->UsageOfCollection(docs_)).num_entries, 0);
  Open();
  EXPECT_FALSE(store()->Contains(cache->identity));
}

TEST_F(KvStoreTest, AnOwnerIsAddedToWhatIsThere) {
  const auto cache = MakeCache("shared");
  const KvOwner first = AddOwner("a");
  const KvOwner second = AddOwner("b");
  const KvOwner third = AddOwner("c");
  const uint64_t generation = store()->generation();
  EXPECT_FALSE(Must(store()->AddOwner(cache->identity, second, generation)));
  PutCache(database_.get(), *cache, first);
  EXPECT_FALSE(Must(store()->IsOwner(cache->identity, second)));
  EXPECT_TRUE(Must(store()->AddOwner(cache->identity, second, generation)));
  EXPECT_TRUE(Must(store()->IsOwner(cache->identity, first)));
  EXPECT_TRUE(Must(store()->IsOwner(cache->identity, second)));
  EXPECT_FALSE(Must(store()->IsOwner(cache->identity, third)));
  Open();
  Must(database_->DeleteDocuments({{first.document, third.document}}));
  EXPECT_TRUE(IsServed(store(), *cache));
  EXPECT_FALSE(Must(store()->AddOwner(cache->identity, third, store()->generation())));
  Must(database_->DeleteDocuments({{second.document}}));
  EXPECT_FALSE(store()->Contains(cache->identity));
}

TEST_F(KvStoreTest, AnOwnerWhoseCachesWereClearedMeanwhileIsNotAdded) {
  const auto cache = MakeCache("shared");
  const KvOwner first = AddOwner("a");
  const KvOwner second = AddOwner("b");
  const uint64_t generation = store()->generation();
  Must(store()->DeleteByCollection(docs_));
  PutCache(database_.get(), *cache, first);
  EXPECT_FALSE(Must(store()->AddOwner(cache->identity, second, generation)));
  EXPECT_TRUE(Must(store()->AddOwner(cache->identity, second, store()->generation())));
  const KvOwner bad = {.collection = docs_, .document = first.document};
  EXPECT_EQ(store()->AddOwner(cache->identity, bad, store()->generation()).status().code(),
            StatusCode::kInvalidArgument);
  options_.access = AccessMode::kReadOnly;
  Open();
  EXPECT_EQ(store()->AddOwner(cache->identity, second, store()->generation()).status().code(),
            StatusCode::kUnsupported);
}

TEST_F(KvStoreTest, BothDocumentsOfACacheInOneCommitTakeItAlong) {
  const auto cache = MakeCache("shared");
  const KvOwner first = AddOwner("a");
  const KvOwner second = AddOwner("b");
  PutCache(database_.get(), *cache, first);
  PutCache(database_.get(), *cache, second);
  Must(database_->DeleteDocuments({{first.document, second.document}}));
  EXPECT_FALSE(store()->Contains(cache->identity));
}

TEST_F(KvStoreTest, DeletionsGoByDocumentCollectionModelAndAll) {
  const KvOwner owner = AddOwner("a");
  const auto cache = MakeCache("a");
  const auto header = MakeCache("header");
  PutCache(database_.get(), *cache, owner);
  PutCache(database_.get(), *header, {.collection = docs_, .model = model_});
  EXPECT_EQ(Must(store()->UsageOfCollection(docs_)).num_bytes, 2 * kNumLayers * kLayerBytes);
  EXPECT_EQ(Must(store()->DeleteByDocument(docs_, owner.document)), 1);
  EXPECT_FALSE(store()->Contains(cache->identity));
  EXPECT_TRUE(store()->Contains(header->identity));
  PutCache(database_.get(), *cache, owner);
  EXPECT_EQ(Must(store()->DeleteByCollection(docs_)), 2);
  PutCache(database_.get(), *cache, owner);
  EXPECT_EQ(Must(store()->DeleteByModel(model_)), 1);
  PutCache(database_.get(), *cache, owner);
  PutCache(database_.get(), *MakeCache("free"), {});
  EXPECT_EQ(Must(store()->DeleteAll()), 2);
  EXPECT_TRUE(SegmentFiles().empty());
  EXPECT_EQ(PutCache(database_.get(), *cache, owner), KvPutOutcome::kStored);
  Must(database_->DropModel(model_));
  EXPECT_EQ(store()->stats().num_entries, 0);
  EXPECT_EQ(PutCache(database_.get(), *cache, owner), KvPutOutcome::kOwnerGone);
}

TEST_F(KvStoreTest, DropCollectionTakesItsCaches) {
  PutCache(database_.get(), *MakeCache("a"), AddOwner("a"));
  PutCache(database_.get(), *MakeCache("header"), {.collection = docs_});
  Must(database_->DropCollection(docs_));
  EXPECT_EQ(store()->stats().num_entries, 0);
  Open();
  EXPECT_EQ(store()->stats().num_entries, 0);
  EXPECT_TRUE(SegmentFiles().empty());
}

TEST_F(KvStoreTest, PutOfADeletedOwnerIsDropped) {
  const auto cache = MakeCache("a");
  const KvOwner owner = AddOwner("a");
  const uint64_t generation = store()->generation();
  AddOwner("a");  // The chunk of `owner` is gone now.
  EXPECT_EQ(Must(store()->Put(cache->Put(owner, generation))), KvPutOutcome::kOwnerGone);
  EXPECT_FALSE(store()->Contains(cache->identity));
}

TEST_F(KvStoreTest, PutThatBeganBeforeAClearIsDropped) {
  const auto cache = MakeCache("a");
  const KvOwner owner = AddOwner("a");
  const uint64_t before_collection = store()->generation();
  Must(store()->DeleteByCollection(docs_));
  EXPECT_EQ(Must(store()->Put(cache->Put(owner, before_collection))), KvPutOutcome::kOwnerGone);
  const uint64_t before_all = store()->generation();
  Must(store()->DeleteAll());
  EXPECT_EQ(Must(store()->Put(cache->Put(owner, before_all))), KvPutOutcome::kOwnerGone);
  EXPECT_EQ(Must(store()->Put(cache->Put(owner, store()->generation()))), KvPutOutcome::kStored);
}

TEST_F(KvStoreTest, ReadOfADeletedEntryIsAMissEvenWithAHandle) {
  const auto cache = MakeCache("a");
  PutCache(database_.get(), *cache, AddOwner("a"));
  {
    const KvHandle handle = Must(store()->Find(cache->identity));
    EXPECT_TRUE(handle.is_live());
    EXPECT_EQ(handle.total_bytes(), kNumLayers * kLayerBytes);
    Must(store()->DeleteByModel(model_));
    EXPECT_FALSE(handle.is_live());
    std::vector<uint8_t> target(kLayerBytes);
    EXPECT_EQ(store()->ReadLayer(handle, 0, target).code(), StatusCode::kNotFound);
  }
  EXPECT_EQ(store()->stats().quarantines, 0);
}

TEST_F(KvStoreTest, FlippedBitIsAMissAndQuarantined) {
  const auto cache = MakeCache("a");
  const auto other = MakeCache("b");
  PutCache(database_.get(), *cache, {});
  PutCache(database_.get(), *other, {});
  database_.reset();
  FlipBit(SegmentFiles().front(), 8 * (4096 + 12'288 + 1234) + 3);  // In layer 1 of the first.
  Open();
  EXPECT_FALSE(IsServed(store(), *cache));
  EXPECT_EQ(store()->stats().quarantines, 1);
  EXPECT_FALSE(store()->Contains(cache->identity));
  EXPECT_TRUE(IsServed(store(), *other));
  Open();
  EXPECT_FALSE(store()->Contains(cache->identity));
  EXPECT_EQ(PutCache(database_.get(), *cache, {}), KvPutOutcome::kStored);
  EXPECT_TRUE(IsServed(store(), *cache));
}

TEST_F(KvStoreTest, EveryDamagedBytePassesUnseenOnlyInPadding) {
  const SampleCache cache("a", 2, 300);
  PutCache(database_.get(), cache, {});
  database_.reset();
  const std::string path = SegmentFiles().front();
  const std::string whole = ReadFile(path);
  for (size_t byte = 0; byte < whole.size(); byte += 37) {
    WriteFile(path, whole);
    FlipBit(path, static_cast<int64_t>(byte) * 8);
    const std::unique_ptr<Database> reader =
        OpenDatabase(directory_ / "kb", {.access = AccessMode::kReadOnly});
    const bool is_header = byte < 52;
    const bool is_payload = byte >= 4096 && (byte % 4096) < 300;
    // IsServed ends the program if it gets other bytes than were put.
    ASSERT_EQ(IsServed(reader->kv(), cache), !is_header && !is_payload) << byte;
  }
}

TEST_F(KvStoreTest, TruncatedOrMissingSegmentIsAMissAfterReopening) {
  const auto first = MakeCache("a");
  const auto second = MakeCache("b");
  PutCache(database_.get(), *first, {});
  PutCache(database_.get(), *second, {});
  database_.reset();
  std::filesystem::resize_file(SegmentFiles().front(), 4096 + kCacheDiskBytes + 100);
  Open();
  EXPECT_TRUE(IsServed(store(), *first));
  EXPECT_FALSE(IsServed(store(), *second));
  // What is appended now must not fall on the alignment that the cut destroyed.
  EXPECT_EQ(PutCache(database_.get(), *second, {}), KvPutOutcome::kStored);
  EXPECT_TRUE(IsServed(store(), *second));
  database_.reset();
  std::filesystem::remove(SegmentFiles().front());
  Open();
  EXPECT_EQ(store()->stats().num_entries, 0);
}

TEST_F(KvStoreTest, SegmentCutWhileOpenIsAMiss) {
  const auto cache = MakeCache("a");
  PutCache(database_.get(), *cache, {});
  EXPECT_TRUE(IsServed(store(), *cache));
  std::filesystem::resize_file(SegmentFiles().front(), 8192);
  EXPECT_FALSE(IsServed(store(), *cache));
  EXPECT_EQ(store()->stats().quarantines, 1);
}

TEST_F(KvStoreTest, DamagedIndexDropsTheCachesAndNothingElse) {
  const auto cache = MakeCache("a");
  const KvOwner owner = AddOwner("a");
  PutCache(database_.get(), *cache, owner);
  Must(database_->Compact());
  database_.reset();
  // The identity stands in the tables of both families as it is.
  int num_damaged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "kb/rocksdb")) {
    if (entry.path().extension() != ".sst") continue;
    const size_t offset = ReadFile(entry.path().string()).find(cache->identity.view());
    if (offset == std::string::npos) continue;
    FlipBit(entry.path().string(), static_cast<int64_t>(offset) * 8);
    ++num_damaged;
  }
  ASSERT_GT(num_damaged, 0);
  Open();
  EXPECT_FALSE(store()->Contains(cache->identity));
  EXPECT_EQ(store()->stats().quarantines, 1);
  EXPECT_TRUE(SegmentFiles().empty());
  EXPECT_EQ(Must(database_->Read().GetDocument(owner.document)).source, "a");
  EXPECT_EQ(PutCache(database_.get(), *cache, owner), KvPutOutcome::kStored);
  Must(database_->Compact());
  Open();
  EXPECT_TRUE(IsServed(store(), *cache));
}

TEST_F(KvStoreTest, OrphanedSegmentsAreRemovedAtOpen) {
  const auto cache = MakeCache("a");
  PutCache(database_.get(), *cache, {});
  database_.reset();
  WriteFile(directory_ / "kb/kv/segment-000007.kv", "left by a crash");
  WriteFile(directory_ / "kb/kv/notes.txt", "not ours");
  Open();
  EXPECT_FALSE(std::filesystem::exists(directory_ / "kb/kv/segment-000007.kv"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "kb/kv/notes.txt"));
  EXPECT_TRUE(IsServed(store(), *cache));
}

TEST_F(KvStoreTest, FullDiskLeavesNothingVisibleAndTheStoreUsable) {
  const auto first = MakeCache("a");
  const auto second = MakeCache("b");
  PutCache(database_.get(), *first, {});
  for (const int64_t granted : {0, 100, 10'000, 12'288, 30'000}) {
    file_system_.Grant(granted);
    const Status status = store()->Put(second->Put({}, 1)).status();
    ASSERT_EQ(status.code(), StatusCode::kResourceExhausted) << granted;
    EXPECT_FALSE(store()->Contains(second->identity));
    EXPECT_TRUE(IsServed(store(), *first));
  }
  EXPECT_EQ(Must(database_->CreateCollection(SampleCollection("more"))), 2U);
  file_system_.GrantAll();
  EXPECT_EQ(PutCache(database_.get(), *second, {}), KvPutOutcome::kStored);
  EXPECT_TRUE(IsServed(store(), *second));
  Open();
  EXPECT_TRUE(IsServed(store(), *first));
  EXPECT_TRUE(IsServed(store(), *second));
}

TEST_F(KvStoreTest, ReadersMeetWholeEntriesWhileOthersDeleteEvictAndCompact) {
  options_.kv_bytes_max = 16 * kCacheDiskBytes;
  Open();
  std::vector<std::unique_ptr<SampleCache>> caches;
  caches.reserve(24);
  for (int i = 0; i < 24; ++i) caches.push_back(MakeCache(std::to_string(i)));
  std::atomic<bool> is_done{false};
  std::atomic<int64_t> num_served{0};
  std::vector<std::thread> readers;
  readers.reserve(2);
  for (size_t r = 0; r < 2; ++r) {
    readers.emplace_back([&, r] {
      for (size_t i = r; !is_done.load(); ++i) {
        num_served += IsServed(store(), *caches[i % caches.size()]) ? 1 : 0;
      }
    });
  }
  std::thread sweeper([&] {
    while (!is_done.load()) {
      Must(store()->DeleteByModel(model_));
      Must(store()->Compact({.dead_share_min = 0.3}));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  for (int round = 0; round < 8; ++round) {
    for (size_t i = 0; i < caches.size(); ++i) {
      const KvOwner owner = i % 3 == 0 ? KvOwner{.model = model_} : KvOwner{};
      PutCache(database_.get(), *caches[i], owner);
    }
  }
  while (num_served.load() == 0) std::this_thread::yield();
  is_done.store(true);
  sweeper.join();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(store()->stats().quarantines, 0);
  EXPECT_EQ(store()->stats().num_pins, 0);
  EXPECT_LE(DiskBytes(), options_.kv_bytes_max + options_.kv_bytes_max / 8);
}

TEST_F(KvStoreTest, PutRacingADeletionNeverOutlivesItsDocument) {
  for (int round = 0; round < 20; ++round) {
    const std::string name = "doc" + std::to_string(round);
    const KvOwner owner = AddOwner(name);
    const auto cache = MakeCache(name);
    std::thread putter([&] { PutCache(database_.get(), *cache, owner); });
    Must(database_->DeleteDocuments({{owner.document}}));
    putter.join();
    ASSERT_FALSE(store()->Contains(cache->identity)) << round;
  }
  Open();
  EXPECT_EQ(store()->stats().num_entries, 0);
}

}  // namespace
}  // namespace intarsia::storage
