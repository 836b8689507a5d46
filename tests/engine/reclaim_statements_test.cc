// What gives space back: a collection's kv_ttl, COMPACT, and deletions that are secure.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"
#include "tests/storage/manual_clock.h"

namespace intarsia::engine {
namespace {

const std::string kAsk =
    "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 6, k = 8, ratio = 1)";

class ReclaimStatementsTest : public EngineFixture {
 protected:
  ReclaimStatementsTest() { Reopen(); }
  void Reopen() { Open({.clock = &clock_}); }

  int64_t DirectoryBytes() const {
    int64_t sum = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(database_path())) {
      if (entry.is_regular_file()) sum += static_cast<int64_t>(entry.file_size());
    }
    return sum;
  }
  // Whether a file holds the bytes as they are.
  bool IsInAFile(const std::string& bytes) const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(database_path())) {
      if (!entry.is_regular_file()) continue;
      if (storage::ReadFile(entry.path()).find(bytes) != std::string::npos) return true;
    }
    return false;
  }

  storage::ManualClock clock_;
};

TEST_F(ReclaimStatementsTest, OldCachesAreMissesAndAreWrittenAgain) {
  CreateFilledDocs("chunk_tokens = 48, min_tokens = 8, kv_ttl = '1d'");
  const std::string wanted = Text(Run(kAsk), "answer");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "ttl_seconds"), 86'400);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 8);
  clock_.Advance(86'399);
  EXPECT_GT(Usage(Run(kAsk), "reused_tokens") + Usage(Run(kAsk), "recomputed_tokens"), 0);
  clock_.Advance(1);
  const auto answer = Run(kAsk);
  EXPECT_EQ(Text(answer, "answer"), wanted);
  EXPECT_EQ(Usage(answer, "recomputed_tokens"), 0);
  Finish();
  const auto shown = Run("SHOW CACHE");
  EXPECT_EQ(Number(shown, "expired"), 8);
  EXPECT_EQ(Number(shown, "entries"), 8);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 8);
}

TEST_F(ReclaimStatementsTest, OldCachesGiveTheirSpaceBack) {
  CreateFilledDocs("chunk_tokens = 48, min_tokens = 8, cache_ttl = 60");
  Run("CACHE COLLECTION docs");
  const int64_t bytes = Number(Run("SHOW CACHE"), "bytes");
  EXPECT_GT(bytes, 0);
  Reopen();
  clock_.Advance(60);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 0);
  // What the thread does once a minute.
  EXPECT_TRUE(engine_->kv()->Reclaim().ok());
  const auto shown = Run("SHOW CACHE");
  EXPECT_EQ(Number(shown, "bytes"), 0);
  EXPECT_EQ(Number(shown, "entries"), 0);
  EXPECT_EQ(Number(shown, "expired"), 10);
  EXPECT_LT(Number(shown, "dead_bytes"), bytes);
}

TEST_F(ReclaimStatementsTest, TheLimitOfACollectionCanBeChanged) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  clock_.Advance(1'000);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  Run("PIN CACHE FOR docs WHERE source LIKE '%market.txt'");
  Run("ALTER COLLECTION docs SET (kv_ttl = '15m')");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "ttl_seconds"), 900);
  const int64_t num_pinned = Number(Run("SHOW CACHE FOR docs"), "pinned");
  EXPECT_GT(num_pinned, 0);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_pinned);
  Reopen();
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_pinned);
  Run("ALTER COLLECTION docs SET (kv_ttl = '1h')");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  EXPECT_EQ(Run("SEARCH 'harbour' IN docs LIMIT 3").rows.size(), 3U);
}

TEST_F(ReclaimStatementsTest, BadOptionsAreErrors) {
  CreateDocs();
  EXPECT_NE(Fail("ALTER COLLECTION docs SET (kv_ttl = '7 moons')").message.find("'7d'"),
            std::string::npos);
  EXPECT_EQ(Fail("ALTER COLLECTION docs SET (kv_tl = 1)").hint, "Did you mean \"kv_ttl\"?");
  const auto fixed = Fail("ALTER COLLECTION docs SET (chunk_tokens = 64)");
  EXPECT_EQ(fixed.message, "option \"chunk_tokens\" is fixed when a collection is made");
  EXPECT_FALSE(fixed.hint.empty());
  EXPECT_EQ(Fail("ALTER COLLECTION dosc SET (kv_ttl = 1)").hint, "Did you mean \"docs\"?");
  EXPECT_EQ(Fail("ALTER COLLECTION docs SET ()").error_class, query::ErrorClass::kParser);
  EXPECT_EQ(Fail("DELETE FROM docs WHERE source = 'a' WITH (secured = on)").hint,
            "Did you mean \"secure\"?");
  EXPECT_EQ(Fail("COMPACT COLLECTION dosc").hint, "Did you mean \"docs\"?");
  EXPECT_EQ(Fail("COMPACT docs").error_class, query::ErrorClass::kParser);
}

TEST_F(ReclaimStatementsTest, CompactSaysHowManyBytesCameBack) {
  CreateFilledDocs("chunk_tokens = 48, min_tokens = 8, kv_ttl = 60");
  Run("CACHE COLLECTION docs");
  Run("COMPACT DATABASE");
  Run("DELETE FROM docs WHERE source LIKE '%.md'");
  const int64_t before = DirectoryBytes();
  const auto compacted = Run("COMPACT COLLECTION docs");
  EXPECT_GT(Number(compacted, "bytes_freed"), 0);
  EXPECT_EQ(Number(compacted, "expired"), 0);
  EXPECT_LT(DirectoryBytes(), before);
  clock_.Advance(60);
  EXPECT_GT(Number(Run("COMPACT DATABASE"), "expired"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 0);
}

TEST_F(ReclaimStatementsTest, ASecureDeleteLeavesNothingAndSaysWhatItSearched) {
  CreateFilledDocs();
  Run("INSERT INTO docs (id, content) VALUES ('secret', 'The keeper of the lighthouse is called "
      "Zacharias Quendelbrot and hides the spare key below the third step.')");
  Run("CACHE COLLECTION docs");
  EXPECT_TRUE(IsInAFile("Zacharias Quendelbrot"));
  const int64_t num_others = 10;  // caches, which stay
  const int64_t num_caches = Number(Run("SHOW CACHE FOR docs"), "entries");
  ASSERT_GT(num_caches, num_others);
  const auto erased = Run("DELETE FROM docs WHERE source = 'secret' WITH (secure = on)");
  EXPECT_EQ(Number(erased, "deleted"), 1);
  EXPECT_EQ(Number(erased, "caches"), num_caches - num_others);
  EXPECT_GT(Number(erased, "bytes_freed"), 0);
  EXPECT_GT(Number(erased, "pieces"), 0);
  EXPECT_GT(Number(erased, "files"), 0);
  EXPECT_GT(Number(erased, "bytes_searched"), 0);
  EXPECT_GT(Number(erased, "rows_searched"), 0);
  EXPECT_TRUE(HasNotice(erased, "nothing is left; not searched: backups and other copies"));
  EXPECT_FALSE(IsInAFile("Zacharias"));
  EXPECT_TRUE(Run("SEARCH 'Quendelbrot' IN docs WITH (mode = text)").rows.empty());
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_others);
  Run(kAsk);
  // Words of the text index are gone as well, once there is another MANIFEST.
  Reopen();
  for (const char* const trace : {"Zacharias", "zacharia", "Quendelbrot", "quendelbrot"}) {
    EXPECT_FALSE(IsInAFile(trace)) << trace;
  }
}

TEST_F(ReclaimStatementsTest, ASecureDropRemovesTheWholeCollection) {
  CreateFilledDocs();
  Run("CREATE COLLECTION other");
  Run("INSERT INTO other (id, content) VALUES ('a', 'Nobody else knows about the blue cellar.')");
  Run("CACHE COLLECTION docs");
  Run("CACHE COLLECTION other");
  const auto dropped = Run("DROP COLLECTION docs WITH (secure = true)");
  EXPECT_EQ(Number(dropped, "deleted"), 5);
  EXPECT_EQ(Number(dropped, "caches"), 10);
  EXPECT_FALSE(IsInAFile("She chose the bay"));
  EXPECT_EQ(Run("SHOW COLLECTIONS").rows.size(), 1U);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 1);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM other"), "count"), 1);
}

TEST_F(ReclaimStatementsTest, ACopyThatIsLeftIsAnErrorThatNamesIt) {
  CreateFilledDocs();
  const std::string copy = database_path() + "/copy.txt";
  storage::WriteFile(copy, TinyDocuments()[0].text);
  const auto error = Fail("DELETE FROM docs WHERE source LIKE '%harbour.md' WITH (secure = on)");
  EXPECT_EQ(error.error_class, query::ErrorClass::kUnavailable);
  EXPECT_NE(error.message.find("file=" + copy), std::string::npos) << error.message;
}

}  // namespace
}  // namespace intarsia::engine
