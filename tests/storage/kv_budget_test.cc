// The budgets of disk and memory while everything happens at once.
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "storage/kv_store.h"
#include "tests/storage/kv_store_fixture.h"
#include "tests/storage/manual_clock.h"

namespace intarsia::storage {
namespace {

constexpr int kNumNames = 120;
constexpr int kNumSteps = 120;

class KvBudgetTest : public KvStoreFixture {
 protected:
  KvBudgetTest() {
    options_.clock = &clock_;
    options_.kv_bytes_max = 40 * kCacheDiskBytes;
    options_.kv_memory_bytes_max = 8 * kNumLayers * kLayerBytes;
    Open();
    store()->SetTtl(docs_, 50);
    for (int i = 0; i < kNumNames; ++i) {
      names_.push_back("c" + std::to_string(i));
      owners_.push_back(AddOwner(names_.back()));
    }
  }
  // Puts and reads at random.
  void Use(unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < kNumSteps; ++i) {
      // Some of them often.
      const size_t index = random() % (random() % 2 == 0 ? names_.size() / 10 : names_.size());
      const auto cache = MakeCache(names_[index]);
      if (IsServed(store(), *cache)) continue;
      PutCache(database_.get(), *cache, owners_[index]);
    }
  }
  // Pins, unpins, deletes, compacts, lets time pass.
  void Meddle() {
    std::mt19937 random(99);
    for (int i = 0; i < kNumSteps; ++i) {
      const std::vector<KvOwner> some = {owners_[random() % owners_.size()],
                                         owners_[random() % owners_.size()]};
      const auto retention = static_cast<KvRetention>(random() % 3);
      const auto retained = store()->Retain(some, retention);
      EXPECT_TRUE(retained.ok() || retained.status().code() == StatusCode::kResourceExhausted);
      if (i % 3 == 0) Must(store()->LoadRetained(nullptr));
      if (i % 7 == 0) Must(store()->DeleteByDocument(docs_, some[0].document));
      if (i % 25 == 0) Must(store()->Compact({.dead_share_min = 0.2}));
      if (i % 50 == 0) clock_.Advance(20);
      if (i % 60 == 0) Must(store()->DropExpired());
    }
  }
  void ExpectWithinBudgets() {
    EXPECT_LE(store()->stats().disk_bytes, options_.kv_bytes_max * 101 / 100);
    EXPECT_LE(store()->memory_stats().num_bytes, options_.kv_memory_bytes_max);
  }

  ManualClock clock_;
  std::vector<std::string> names_;
  std::vector<KvOwner> owners_;
};

TEST_F(KvBudgetTest, BudgetsHoldWhileCachesArePutReadPinnedDeletedAndMoved) {
  std::atomic<int> num_running{3};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 2; ++seed) {
    threads.emplace_back([this, seed, &num_running] {
      Use(seed);
      --num_running;
    });
  }
  threads.emplace_back([this, &num_running] {
    Meddle();
    --num_running;
  });
  while (num_running.load() > 0) {
    ExpectWithinBudgets();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& thread : threads) thread.join();
  ExpectWithinBudgets();
  EXPECT_LE(DiskBytes(), options_.kv_bytes_max);
  EXPECT_EQ(store()->stats().num_pins, 0);
  EXPECT_EQ(store()->memory_stats().num_pins, 0);
  EXPECT_EQ(store()->stats().quarantines, 0);
  // What is pinned in one tier is pinned in the books of the other.
  Must(store()->Retain(owners_, KvRetention::kEvictable));
  EXPECT_EQ(store()->stats().retained_bytes, 0);
  EXPECT_EQ(store()->memory_stats().retained_bytes, 0);
  Open();
  EXPECT_EQ(store()->stats().num_retained, 0);
  EXPECT_LE(DiskBytes(), options_.kv_bytes_max);
}

}  // namespace
}  // namespace intarsia::storage
