// KV caches whose layers come beside their caller, past the page cache.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned_array.h"
#include "base/async_reader.h"
#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

// Says that no page is cached, so that every read that can be direct is.
class UncachedFile : public DirectFile {
 public:
  explicit UncachedFile(std::unique_ptr<DirectFile> file) : file_(std::move(file)) {}
  int descriptor() const override { return file_->descriptor(); }
  bool IsCached(int64_t /*offset*/, int64_t /*num_bytes*/) const override { return false; }

 private:
  const std::unique_ptr<DirectFile> file_;
};

class UncachedFileSystem : public FaultyFileSystem {
 public:
  std::unique_ptr<DirectFile> OpenDirect(const std::string& path) override {
    auto file = FileSystem::Local()->OpenDirect(path);
    return file == nullptr ? nullptr : std::make_unique<UncachedFile>(std::move(file));
  }
};

class KvAsyncTest : public testing::Test {
 protected:
  KvAsyncTest() {
    options_.file_system = &file_system_;
    Open();
  }
  void Open() {
    database_.reset();
    database_ = OpenDatabase(directory_ / "kb", options_);
  }
  KvStore* store() { return database_->kv(); }
  std::span<uint8_t> Room(int64_t layer, int64_t num_bytes) {
    const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
    constexpr int64_t kPage = AsyncReader::kAlignment;
    return {memory_.data() + (kPage - begin % kPage) % kPage + layer * 3 * kPage,
            static_cast<size_t>(num_bytes)};
  }
  // What each layer's read has brought; a test where there are no such reads begins none.
  std::vector<int64_t> StartAll(const KvHandle& handle) {
    std::vector<int64_t> num_read(static_cast<size_t>(kNumLayers), 0);
    const auto reader = AsyncReader::Create(kNumLayers);
    if (reader == nullptr) return num_read;
    for (int64_t layer = 0; layer < kNumLayers; ++layer) {
      store()->StartLayer(handle, layer, Room(layer, handle.DirectBytes(layer)), reader.get(),
                          layer);
    }
    while (reader->num_in_flight() > 0) {
      for (const AsyncReader::Done& done : reader->Wait()) {
        num_read[static_cast<size_t>(done.tag)] = done.num_bytes;
      }
    }
    return num_read;
  }

  const TemporaryDirectory directory_;
  UncachedFileSystem file_system_;
  DatabaseOptions options_;
  AlignedArray<uint8_t> memory_{(3 * kNumLayers + 1) * AsyncReader::kAlignment};
  std::unique_ptr<Database> database_;
};

TEST_F(KvAsyncTest, LayersReadBesideAreThoseThatWerePut) {
  const SampleCache cache("a", kNumLayers, kLayerBytes);
  PutCache(database_.get(), SampleCache("before", kNumLayers, kLayerBytes), {});
  PutCache(database_.get(), cache, {});
  const KvHandle handle = Must(store()->Find(cache.identity));
  const std::vector<int64_t> num_read = StartAll(handle);
  for (int64_t layer = 0; layer < kNumLayers; ++layer) {
    const std::span<uint8_t> target = Room(layer, kLayerBytes);
    ASSERT_TRUE(
        store()->FinishLayer(handle, layer, target, num_read[static_cast<size_t>(layer)]).ok());
    EXPECT_EQ(std::string(target.begin(), target.end()),
              cache.payloads[static_cast<size_t>(layer)]);
  }
}

TEST_F(KvAsyncTest, WhatAReadDidNotBringIsReadAgain) {
  const SampleCache cache("a", kNumLayers, kLayerBytes);
  PutCache(database_.get(), cache, {});
  const KvHandle handle = Must(store()->Find(cache.identity));
  for (const int64_t num_read : {int64_t{0}, kLayerBytes - 1, kLayerBytes}) {
    const std::span<uint8_t> target = Room(1, kLayerBytes);
    std::fill(target.begin(), target.end(), uint8_t{0});
    ASSERT_TRUE(store()->FinishLayer(handle, 1, target, num_read).ok());
    EXPECT_EQ(std::string(target.begin(), target.end()), cache.payloads[1]);
  }
}

TEST_F(KvAsyncTest, DamagedLayerReadBesideIsAMissAndQuarantined) {
  const SampleCache cache("a", kNumLayers, kLayerBytes);
  PutCache(database_.get(), cache, {});
  database_.reset();
  FlipBit(directory_ / "kb/kv/segment-000001.kv", 8 * (4096 + 12'288 + 1234) + 3);  // In layer 1.
  Open();
  {
    const KvHandle handle = Must(store()->Find(cache.identity));
    const std::vector<int64_t> num_read = StartAll(handle);
    EXPECT_TRUE(store()->FinishLayer(handle, 0, Room(0, kLayerBytes), num_read[0]).ok());
    EXPECT_EQ(store()->FinishLayer(handle, 1, Room(1, kLayerBytes), num_read[1]).code(),
              StatusCode::kNotFound);
  }
  EXPECT_EQ(store()->stats().quarantines, 1);
  EXPECT_FALSE(store()->Contains(cache.identity));
}

TEST_F(KvAsyncTest, EntryDeletedWhileItIsReadIsAMiss) {
  const SampleCache cache("a", kNumLayers, kLayerBytes);
  PutCache(database_.get(), cache, {});
  const KvHandle handle = Must(store()->Find(cache.identity));
  const std::vector<int64_t> num_read = StartAll(handle);
  Must(store()->DeleteAll());
  EXPECT_EQ(store()->FinishLayer(handle, 0, Room(0, kLayerBytes), num_read[0]).code(),
            StatusCode::kNotFound);
  const auto reader = AsyncReader::Create(1);
  if (reader != nullptr) {
    EXPECT_FALSE(store()->StartLayer(handle, 0, Room(0, handle.DirectBytes(0)), reader.get(), 0));
  }
}

TEST_F(KvAsyncTest, LayersOrTargetsThatDoNotFitAreNotBegun) {
  const SampleCache cache("a", kNumLayers, kLayerBytes);
  PutCache(database_.get(), cache, {});
  const KvHandle handle = Must(store()->Find(cache.identity));
  EXPECT_EQ(handle.DirectBytes(0), 12'288);
  const auto reader = AsyncReader::Create(1);
  if (reader != nullptr) {
    EXPECT_FALSE(store()->StartLayer(handle, -1, Room(0, 12'288), reader.get(), 0));
    EXPECT_FALSE(store()->StartLayer(handle, kNumLayers, Room(0, 12'288), reader.get(), 0));
    EXPECT_FALSE(store()->StartLayer(handle, 0, Room(0, kLayerBytes), reader.get(), 0));
  }
  EXPECT_EQ(store()->FinishLayer(handle, 0, Room(0, 12'288), 12'288).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(store()->FinishLayer(handle, kNumLayers, Room(0, kLayerBytes), 0).code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::storage
