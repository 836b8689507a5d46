// PIN CACHE and UNPIN CACHE.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

const std::string kAsk =
    "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 6, k = 8, ratio = 1)";

class PinStatementsTest : public EngineFixture {
 protected:
  // Disk for the caches that are there and hardly more.
  void FillBudget() {
    const auto shown = Run("SHOW CACHE");
    Run("SET kv.disk_bytes_max = " +
        std::to_string(Number(shown, "bytes") + Number(shown, "dead_bytes") + 3 * 4'096));
  }
};

TEST_F(PinStatementsTest, PinnedCachesOutliveOthersOnDiskAndInMemory) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const auto pinned = Run("PIN CACHE FOR docs WHERE source LIKE '%harbour.md'");
  const int64_t num_pinned = Number(pinned, "pinned");
  EXPECT_GT(num_pinned, 0);
  EXPECT_LT(num_pinned, 10);
  EXPECT_EQ(Number(pinned, "not_cached"), 0);
  EXPECT_GT(Number(pinned, "bytes"), 0);
  auto shown = Run("SHOW CACHE");
  for (const size_t tier : {0U, 1U}) {
    EXPECT_EQ(Number(shown, "pinned", tier), num_pinned);
    EXPECT_GE(Number(shown, "pinned_bytes", tier), Number(pinned, "bytes"));
    EXPECT_EQ(Number(shown, "in_use", tier), 0);
  }
  // They came into memory at once.
  EXPECT_EQ(Number(shown, "entries", 1), num_pinned);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "pinned"), num_pinned);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "pinned_bytes"), Number(pinned, "bytes"));

  FillBudget();
  Run("CREATE COLLECTION other WITH (chunk_tokens = 48, min_tokens = 8)");
  Run("COPY other FROM '" + DocumentPath("") + "'");
  Run("CACHE COLLECTION other");
  shown = Run("SHOW CACHE");
  EXPECT_GT(Number(shown, "evictions"), 0);
  EXPECT_EQ(Number(shown, "pinned"), num_pinned);
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md'"), "already_cached"),
            num_pinned);

  Open();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned"), num_pinned);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned", 1), num_pinned);
  Run(kAsk);
  EXPECT_GE(Number(Run("SHOW CACHE"), "entries", 1), num_pinned);
  const auto released = Run("UNPIN CACHE FOR docs");
  EXPECT_EQ(Number(released, "unpinned"), num_pinned);
  shown = Run("SHOW CACHE");
  EXPECT_EQ(Number(shown, "pinned"), 0);
  EXPECT_EQ(Number(shown, "pinned_bytes", 1), 0);
}

TEST_F(PinStatementsTest, WhatIsNotCachedIsSaid) {
  CreateFilledDocs();
  const auto none = Run("PIN CACHE FOR docs TIER DISK");
  EXPECT_EQ(Number(none, "pinned"), 0);
  EXPECT_EQ(Number(none, "not_cached"), 10);
  EXPECT_TRUE(HasNotice(none, "10 chunks have no cache to pin; CACHE COLLECTION docs"));
  Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(Run("PIN CACHE FOR docs TIER DISK"), "pinned"), 10);
  EXPECT_EQ(Number(Run("PIN CACHE FOR docs TIER DISK"), "already_pinned"), 10);
  const auto shown = Run("SHOW CACHE");
  EXPECT_EQ(Number(shown, "pinned", 0), 10);
  EXPECT_EQ(Number(shown, "pinned", 1), 0);
  EXPECT_EQ(Number(shown, "entries", 1), 0);
}

TEST_F(PinStatementsTest, ChunksOfEqualTextHaveOneCacheWhicheverIsNamed) {
  CreateFilledDocs();
  WriteDocument("twin.md", TinyDocuments()[0].text);
  CopyAll();
  const std::string twin = "WHERE source LIKE '%twin.md'";
  const auto cached = Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(cached, "written"), 10);
  const int64_t num_twins = Number(cached, "already_cached");
  EXPECT_GT(num_twins, 0);
  const auto pinned = Run("PIN CACHE FOR docs " + twin);
  EXPECT_EQ(Number(pinned, "pinned"), num_twins);
  EXPECT_EQ(Number(pinned, "not_cached"), 0);
  const auto again = Run("PIN CACHE FOR docs WHERE source LIKE '%harbour.md'");
  EXPECT_EQ(Number(again, "already_pinned"), num_twins);
  EXPECT_EQ(Number(again, "bytes"), Number(pinned, "bytes"));
  // They stay for the one that is left, with their pin.
  Run("DELETE FROM docs WHERE source LIKE '%harbour.md'");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10);
  EXPECT_EQ(Number(Run("UNPIN CACHE FOR docs " + twin), "unpinned"), num_twins);
  Run("DELETE FROM docs " + twin);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 10 - num_twins);
}

TEST_F(PinStatementsTest, AnAnswerFindsTheCacheOfAnEqualTextForItsChunk) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  WriteDocument("twin.md", TinyDocuments()[0].text);
  CopyAll();
  const std::string twin = "WHERE source LIKE '%twin.md'";
  EXPECT_GT(Number(Run("PIN CACHE FOR docs " + twin), "not_cached"), 0);
  Run("ANSWER 'harbour?' FROM docs " + twin +
      " WITH (min_score = -1, max_tokens = 6, k = 8, ratio = 1)");
  Finish();
  const auto pinned = Run("PIN CACHE FOR docs " + twin);
  EXPECT_GT(Number(pinned, "pinned"), 0);
  EXPECT_EQ(Number(pinned, "not_cached"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), 10);
}

TEST_F(PinStatementsTest, WhatDoesNotFitIsAnErrorThatChangesNothing) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  Run("SET kv.memory_bytes_max = 1000");
  const auto error = Fail("PIN CACHE FOR docs");
  EXPECT_EQ(error.error_class, query::ErrorClass::kResource);
  EXPECT_NE(error.message.find("raise kv.memory_bytes_max"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("TIER DISK"), std::string::npos) << error.message;
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned"), 0);
  Run("PIN CACHE FOR docs TIER DISK");
  // A limit below it is refused, and the setting stays what it was.
  const std::string before = Text(Run("SHOW SETTINGS LIKE 'kv.disk%'"), "value");
  const auto refused = Fail("SET kv.disk_bytes_max = 1000");
  EXPECT_EQ(refused.error_class, query::ErrorClass::kResource);
  EXPECT_NE(refused.message.find("UNPIN CACHE"), std::string::npos) << refused.message;
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'kv.disk%'"), "value"), before);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned"), 10);
}

TEST_F(PinStatementsTest, APinGoesWithItsCache) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  Run("PIN CACHE FOR docs");
  Run("DELETE FROM docs WHERE source LIKE '%railway.md'");
  const int64_t num_left = Number(Run("SHOW CACHE"), "pinned");
  EXPECT_LT(num_left, 10);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), num_left);
  Run("CLEAR CACHE FOR docs");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned_bytes", 1), 0);
  Run("CACHE COLLECTION docs");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "pinned"), 0);
}

TEST_F(PinStatementsTest, BadStatementsAreErrors) {
  CreateDocs();
  EXPECT_EQ(Fail("PIN CACHE FOR dosc").hint, "Did you mean \"docs\"?");
  EXPECT_EQ(Fail("PIN CACHE FOR docs WHERE sorce = 'x'").hint, "Did you mean \"source\"?");
  EXPECT_EQ(Fail("PIN CACHE docs").error_class, query::ErrorClass::kParser);
  EXPECT_EQ(Fail("PIN CACHE FOR docs TIER gpu").error_class, query::ErrorClass::kParser);
  EXPECT_EQ(Fail("UNPIN CACHE FOR docs TIER disk").error_class, query::ErrorClass::kParser);
}

}  // namespace
}  // namespace intarsia::engine
