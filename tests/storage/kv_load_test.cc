// Opening a database with so many caches that they are loaded in ranges beside each other.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/kv_store.h"
#include "tests/storage/kv_store_fixture.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kNumCaches = 12'000;
constexpr int64_t kCachesPerSegment = 3'000;

class KvLoadTest : public KvStoreFixture {
 protected:
  KvLoadTest() {
    options_.kv_segment_bytes_max = 4096 * (kCachesPerSegment + 1);
    Open();
    owner_ = AddOwner("owned");
    const std::string payload = "payload";
    const std::vector<std::string_view> layers = {payload};
    for (int64_t i = 0; i < kNumCaches; ++i) {
      const KvPut put = {.identity = IdentityOf(i),
                         .shape = {.num_layers = 1, .num_tokens = i},
                         .layers = layers,
                         .owner = i == 7 ? owner_ : KvOwner(),
                         .generation = store()->generation()};
      EXPECT_EQ(Must(store()->Put(put)), KvPutOutcome::kStored);
    }
  }
  static Digest IdentityOf(int64_t i) { return DigestOf(std::to_string(i)); }

  KvOwner owner_;
};

TEST_F(KvLoadTest, EveryCacheIsThereAgainWithItsShapeAndItsRetention) {
  Must(store()->Retain({&owner_, 1}, KvRetention::kOnDisk));
  const KvStats before = store()->stats();
  Open();
  const KvStats after = store()->stats();
  EXPECT_EQ(after.num_entries, kNumCaches);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_EQ(after.dead_bytes, 0);
  EXPECT_EQ(after.num_retained, 1);
  EXPECT_EQ(after.quarantines, 0);
  for (int64_t i = 0; i < kNumCaches; ++i) {
    const auto handle = store()->Find(IdentityOf(i));
    ASSERT_TRUE(handle.ok()) << i;
    ASSERT_EQ(handle->shape().num_tokens, i);
  }
}

TEST_F(KvLoadTest, ThoseOfALostSegmentAreDroppedForGood) {
  const std::vector<std::string> segments = SegmentFiles();
  ASSERT_EQ(std::ssize(segments), kNumCaches / kCachesPerSegment);
  database_.reset();
  std::filesystem::remove(segments[1]);
  for (int round = 0; round < 2; ++round) {
    Open();
    EXPECT_EQ(store()->stats().num_entries, kNumCaches - kCachesPerSegment);
    EXPECT_EQ(store()->stats().quarantines, round == 0 ? kCachesPerSegment : 0);
    for (int64_t i = 0; i < kNumCaches; i += 100) {
      EXPECT_EQ(store()->Contains(IdentityOf(i)), i / kCachesPerSegment != 1) << i;
    }
  }
}

}  // namespace
}  // namespace intarsia::storage
