#include "storage/kv_store.h"

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/storage/faulty_file_system.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kLayerBytes = 10'000;  // Takes 12,288 on disk.
constexpr int64_t kNumLayers = 3;
constexpr int64_t kCacheDiskBytes = 3 * 12'288;

class KvStoreTest : public testing::Test {
 protected:
  KvStoreTest() { Open(); }

  void Open() {
    database_.reset();
    options_.file_system = &file_system_;
    database_ = OpenDatabase(directory_ / "kb", options_);
    if (docs_ != 0) return;
    model_ = Must(database_->CreateModel(SampleModel("qa", ModelType::kGenerate)));
    docs_ = Must(database_->CreateCollection(SampleCollection("docs")));
  }
  KvStore* store() { return database_->kv(); }

  // Adds a document of one chunk.
  KvOwner AddOwner(const std::string& source) {
    const StoredDocument stored =
        PutOne(database_.get(), docs_, SampleDocument(source, "text", 0)).front();
    return {
        .collection = docs_, .document = stored.id, .chunk = stored.first_chunk, .model = model_};
  }
  static std::unique_ptr<SampleCache> MakeCache(const std::string& name) {
    return std::make_unique<SampleCache>(name, kNumLayers, kLayerBytes);
  }
  std::vector<std::string> SegmentFiles() {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "kb/kv")) {
      paths.push_back(entry.path().string());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  int64_t DiskBytes() {
    int64_t sum = 0;
    for (const std::string& path : SegmentFiles()) {
      sum += static_cast<int64_t>(std::filesystem::file_size(path));
    }
    return sum;
  }

  const TemporaryDirectory directory_;
  FaultyFileSystem file_system_;
  DatabaseOptions options_;
  std::unique_ptr<Database> database_;
  ModelId model_ = 0;
  CollectionId docs_ = 0;
};

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
  EXPECT_EQ(Must(store()->UsageOfModel(model_)).num_entries, 0);
  Open();
  EXPECT_FALSE(store()->Contains(cache->identity));
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

TEST_F(KvStoreTest, BudgetEvictsTheLeastRecentlyUsedAndBoundsTheFiles) {
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

TEST_F(KvStoreTest, EvictionLeavesEntriesInUseAlone) {
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
    store()->SetBudget(kCacheDiskBytes + 8192);
    EXPECT_EQ(PutCache(database_.get(), *MakeCache("x"), {}), KvPutOutcome::kOverBudget);
  }
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("x"), {}), KvPutOutcome::kStored);
  EXPECT_FALSE(store()->Contains(pinned->identity));
  store()->SetBudget(kCacheDiskBytes);
  EXPECT_EQ(PutCache(database_.get(), *MakeCache("y"), {}), KvPutOutcome::kOverBudget);
}

TEST_F(KvStoreTest, UsesSurviveReopening) {
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

TEST_F(KvStoreTest, PolicyDecidesWhatGoes) {
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

TEST_F(KvStoreTest, CompactionReturnsDeadBytesAndKeepsTheLiving) {
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

TEST_F(KvStoreTest, CompactionDropsDamagedEntries) {
  PutCache(database_.get(), *MakeCache("a"), {});
  PutCache(database_.get(), *MakeCache("b"), AddOwner("b"));
  PutCache(database_.get(), *MakeCache("c"), {});
  FlipBit(SegmentFiles().front(), 8 * 5000);
  Must(store()->DeleteByModel(model_));
  Must(store()->Compact({.dead_share_min = 0.1}));
  EXPECT_FALSE(store()->Contains(DigestOf("a")));
  EXPECT_EQ(store()->stats().quarantines, 1);
  EXPECT_TRUE(IsServed(store(), *MakeCache("c")));
  Open();
  EXPECT_TRUE(IsServed(store(), *MakeCache("c")));
}

TEST_F(KvStoreTest, CompactionOnAFullDiskLosesNothing) {
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

TEST_F(KvStoreTest, ReadersMeetWholeEntriesWhileOthersDeleteEvictAndCompact) {
  options_.kv_bytes_max = 16 * kCacheDiskBytes;
  Open();
  std::vector<std::unique_ptr<SampleCache>> caches;
  for (int i = 0; i < 24; ++i) caches.push_back(MakeCache(std::to_string(i)));
  std::atomic<bool> is_done{false};
  std::atomic<int64_t> num_served{0};
  std::vector<std::thread> readers;
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
