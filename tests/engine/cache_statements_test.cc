// CACHE COLLECTION, SHOW CACHE, CLEAR CACHE, and caches that are damaged on disk.
#include <filesystem>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"
#include "tests/storage/faulty_file_system.h"

namespace intarsia::engine {
namespace {

const std::string kAsk =
    "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 12, k = 8, ratio = 1";

class CacheStatementsTest : public EngineFixture {
 protected:
  // Inverts bits all over the files that hold KV caches.
  void DamageSegments(uint32_t seed, int64_t num_flips) {
    std::mt19937_64 random(seed);
    for (const auto& entry : std::filesystem::directory_iterator(database_path() + "/kv")) {
      const auto num_bits = static_cast<uint64_t>(entry.file_size()) * 8;
      for (int64_t i = 0; i < num_flips && num_bits > 0; ++i) {
        storage::FlipBit(entry.path(), static_cast<int64_t>(random() % num_bits));
      }
    }
  }
};

TEST_F(CacheStatementsTest, CacheCollectionWritesWhatIsMissing) {
  CreateFilledDocs();
  const auto some = Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md'");
  const int64_t num_some = Number(some, "written");
  EXPECT_GT(num_some, 0);
  EXPECT_GT(Number(some, "tokens"), 0);
  EXPECT_GT(Number(some, "kv_bytes"), 0);
  const auto rest = Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(rest, "already_cached"), num_some);
  EXPECT_EQ(Number(rest, "written"), 10 - num_some);
  EXPECT_EQ(Number(rest, "refused"), 0);
  const auto again = Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(again, "already_cached"), 10);
  EXPECT_EQ(Number(again, "written"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "bytes"), Number(again, "kv_bytes"));
}

TEST_F(CacheStatementsTest, ACancelledRunSaysWhatItWroteAndKeepsIt) {
  class Stopper final : public ProgressSink {
   public:
    explicit Stopper(CancelToken* token) : token_(*token) {}
    void Report(const Progress& progress) override {
      if (progress.done >= 3) token_.Cancel();
    }

   private:
    CancelToken& token_;
  };
  CreateFilledDocs();
  CancelToken token;
  Stopper stopper(&token);
  context_.cancel = &token;
  context_.progress = &stopper;
  const auto error = Fail("CACHE COLLECTION docs");
  context_ = {};
  EXPECT_EQ(error.error_class, query::ErrorClass::kCancelled);
  EXPECT_EQ(error.hint, "3 caches were written before; run the statement again to go on.");
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs"), "already_cached"), 3);
}

TEST_F(CacheStatementsTest, ShowCacheCountsHitsAndMisses) {
  CreateFilledDocs();
  Run("SET kv.write_behind = off");
  Run(kAsk + ")");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "misses"), 8);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "hits"), 0);
  Run("CACHE COLLECTION docs");
  Run(kAsk + ")");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "hits"), 8);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), 10);
}

TEST_F(CacheStatementsTest, CachesThatAreUsedTwiceAreHeldInMemoryWithinItsBudget) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  for (int i = 0; i < 3; ++i) Run(kAsk + ")");
  auto shown = Run("SHOW CACHE");
  ASSERT_EQ(shown.rows.size(), 2U);
  EXPECT_EQ(Text(shown, "tier", 1), "memory");
  EXPECT_EQ(Number(shown, "entries", 1), 8);
  EXPECT_EQ(Number(shown, "hits", 1), 8);
  EXPECT_GT(Number(shown, "bytes", 1), 0);
  EXPECT_EQ(Number(shown, "in_use", 1), 0);
  Run("SET kv.memory_bytes_max = 0");
  shown = Run("SHOW CACHE");
  EXPECT_EQ(Number(shown, "bytes", 1), 0);
  EXPECT_EQ(Number(shown, "entries", 0), 10);
  Run(kAsk + ")");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries", 1), 0);
}

TEST_F(CacheStatementsTest, ClearCacheRemovesAndFrees) {
  CreateFilledDocs();
  Run("CREATE COLLECTION other");
  Run("INSERT INTO other (id, content) VALUES ('a', 'The harbour.')");
  Run("CACHE COLLECTION docs");
  Run("CACHE COLLECTION other");
  const auto cleared = Run("CLEAR CACHE FOR docs");
  EXPECT_EQ(Number(cleared, "removed"), 10);
  EXPECT_GT(Number(cleared, "bytes_removed"), 0);
  EXPECT_GT(Number(cleared, "bytes_freed"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 1);
  EXPECT_EQ(Number(Run("CLEAR CACHE"), "removed"), 1);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes"), 0);
  EXPECT_EQ(Number(Run("CLEAR CACHE"), "removed"), 0);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 10);
}

TEST_F(CacheStatementsTest, AClearedCacheDoesNotComeBackFromTheQueue) {
  CreateFilledDocs();
  Run(kAsk + ")");
  Run("CLEAR CACHE");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 0);
  Run(kAsk + ")");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 8);
}

TEST_F(CacheStatementsTest, ASmallerLimitHoldsAtOnce) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const auto before = Run("SHOW CACHE");
  const int64_t limit = Number(before, "bytes") / 2;
  const auto set = Run("SET kv.disk_bytes_max = " + std::to_string(limit));
  const auto after = Run("SHOW CACHE");
  EXPECT_EQ(Number(after, "bytes_max"), limit);
  EXPECT_LE(Number(after, "bytes") + Number(after, "dead_bytes"), limit);
  const int64_t num_removed = Number(after, "evictions");
  EXPECT_GT(num_removed, 4);
  EXPECT_LT(num_removed, 10);
  EXPECT_EQ(Number(after, "entries"), 10 - num_removed);
  ASSERT_EQ(set.notices.size(), 1U);
  EXPECT_TRUE(HasNotice(set, std::to_string(num_removed) + " caches were removed, and "));
  EXPECT_TRUE(Run("SET kv.disk_bytes_max = " + std::to_string(limit + 1)).notices.empty());
  EXPECT_TRUE(HasNotice(Run("SET kv.disk_bytes_max = 0"),
                        std::to_string(10 - num_removed) + " caches were removed"));
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "segments"), 0);
}

TEST_F(CacheStatementsTest, WhatIsPinnedStaysAboveASmallerLimitAndIsSaid) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  Run("PIN CACHE FOR docs WHERE source LIKE '%e.md' TIER DISK");
  const int64_t num_pinned = Number(Run("SHOW CACHE"), "pinned");
  ASSERT_GT(num_pinned, 2);
  ASSERT_LT(num_pinned, 10);
  // The pinned caches with the header of one segment; small segments have more of them.
  const int64_t limit = Number(Run("SHOW CACHE"), "pinned_bytes") + 4'096;
  const auto set = Run("SET kv.disk_bytes_max = " + std::to_string(limit));
  EXPECT_TRUE(HasNotice(set, std::to_string(10 - num_pinned) + " caches were removed"));
  EXPECT_TRUE(HasNotice(set, "caches that are pinned or in use stay"));
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), num_pinned);
}

TEST_F(CacheStatementsTest, ABudgetThatIsTooSmallIsSaid) {
  CreateFilledDocs();
  Run("SET kv.disk_bytes_max = 0");
  const auto refused = Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(refused, "written"), 0);
  EXPECT_EQ(Number(refused, "refused"), 10);
  EXPECT_TRUE(HasNotice(refused, "10 caches were not stored"));
  const auto answer = Run(kAsk + ")");
  EXPECT_EQ(Usage(answer, "recomputed_tokens"), 0);
}

TEST_F(CacheStatementsTest, DamageOnDiskIsNoticedAndTheAnswerStaysRight) {
  CreateFilledDocs();
  const std::string wanted = Text(Run(kAsk + ", reuse = 'none')"), "answer");
  for (uint32_t seed = 0; seed < 4; ++seed) {
    Run("CACHE COLLECTION docs");
    EXPECT_EQ(Text(Run(kAsk + ")"), "answer"), wanted);
    Close();
    DamageSegments(seed, /*num_flips=*/200);
    Open();
    const auto answer = Run(kAsk + ")");
    EXPECT_EQ(Text(answer, "answer"), wanted);
    const int64_t num_quarantined = Number(Run("SHOW CACHE"), "quarantines");
    EXPECT_GT(num_quarantined, 0);
    EXPECT_TRUE(
        HasNotice(answer, std::to_string(num_quarantined) + " damaged KV caches were put aside"));
    EXPECT_EQ(Usage(answer, "prompt_tokens"), Usage(answer, "reused_tokens") +
                                                  Usage(answer, "recomputed_tokens") +
                                                  Usage(answer, "fresh_tokens"));
    // They are written again behind the answer, and are whole then.
    Finish();
    const auto again = Run(kAsk + ")");
    EXPECT_TRUE(again.notices.size() <= 1);
    EXPECT_EQ(Text(again, "answer"), wanted);
    Run("CLEAR CACHE");
  }
}

TEST_F(CacheStatementsTest, SegmentsThatAreGoneOrCutAreMisses) {
  CreateFilledDocs();
  const std::string wanted = Text(Run(kAsk + ", reuse = 'none')"), "answer");
  Run("CACHE COLLECTION docs");
  Close();
  for (const auto& entry : std::filesystem::directory_iterator(database_path() + "/kv")) {
    std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
  }
  Open();
  const auto cut = Run(kAsk + ")");
  EXPECT_EQ(Text(cut, "answer"), wanted);
  EXPECT_LT(Number(Run("SHOW CACHE"), "hits"), 8);
  Finish();
  Close();
  std::filesystem::remove_all(database_path() + "/kv");
  Open();
  EXPECT_EQ(Text(Run(kAsk + ")"), "answer"), wanted);
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 8);
}

TEST_F(CacheStatementsTest, ADiskThatIsFullOfCachesStillAnswers) {
  storage::FaultyFileSystem files;
  Open({.file_system = &files});
  CreateFilledDocs();
  const std::string wanted = Text(Run(kAsk + ", reuse = 'none')"), "answer");
  files.Grant(100'000);
  const auto error = Fail("CACHE COLLECTION docs");
  EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
  EXPECT_NE(error.message.find("no space left"), std::string::npos) << error.message;
  // What is written behind fails quietly; what was written before serves.
  EXPECT_EQ(Text(Run(kAsk + ")"), "answer"), wanted);
  Finish();
  EXPECT_EQ(Text(Run(kAsk + ")"), "answer"), wanted);
  files.GrantAll();
  Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  Open();
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  EXPECT_EQ(Text(Run(kAsk + ")"), "answer"), wanted);
}

}  // namespace
}  // namespace intarsia::engine
