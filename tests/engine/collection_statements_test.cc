// CREATE COLLECTION, DROP COLLECTION, SHOW COLLECTIONS and DESCRIBE.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

using CollectionStatementsTest = EngineFixture;

TEST_F(CollectionStatementsTest, NeedsAnEmbeddingModel) {
  EXPECT_NE(Fail("CREATE COLLECTION docs").hint.find("CREATE MODEL"), std::string::npos);
  Run("CREATE MODEL e FROM '" + embedder_path() + "'");
  Run("CREATE MODEL g FROM '" + generator_path() + "'");
  EXPECT_EQ(Fail("CREATE COLLECTION docs WITH (embedding = g)").message,
            "model \"g\" is not an embedding model");
  EXPECT_EQ(Fail("CREATE COLLECTION docs WITH (embedding = x)").message,
            "model \"x\" does not exist");
  Run("CREATE COLLECTION docs");
  EXPECT_EQ(Text(Run("SHOW COLLECTIONS"), "embedding"), "e");
}

TEST_F(CollectionStatementsTest, ANameThatIsTakenIsAnErrorOrANotice) {
  CreateDocs();
  EXPECT_EQ(Fail("CREATE COLLECTION docs").message, "collection \"docs\" exists already");
  EXPECT_TRUE(HasNotice(Run("CREATE COLLECTION IF NOT EXISTS docs"), "nothing changed"));
  EXPECT_EQ(Run("SHOW COLLECTIONS").rows.size(), 1u);
}

TEST_F(CollectionStatementsTest, ChunkerOptionsThatContradictEachOtherAreRefusedAtOnce) {
  CreateDocs();
  const auto error = Fail("CREATE COLLECTION x WITH (chunk_tokens = 64, overlap = 64)");
  EXPECT_EQ(error.error_class, query::ErrorClass::kBinder);
  EXPECT_EQ(error.message, "overlap may be at most half of chunk_tokens, which is 64, not 64");
  EXPECT_EQ(error.position.column, 56);
  EXPECT_EQ(Fail("CREATE COLLECTION x WITH (embedding = ee)").hint, "Did you mean \"e\"?");
  EXPECT_EQ(Run("SHOW COLLECTIONS").rows.size(), 1u);
}

TEST_F(CollectionStatementsTest, ShowCountsWhatIsThere) {
  CreateFilledDocs();
  const auto shown = Run("SHOW COLLECTIONS");
  EXPECT_EQ(Text(shown, "name"), "docs");
  EXPECT_EQ(Number(shown, "documents"), 5);
  EXPECT_EQ(Number(shown, "chunks"), Number(Run("SELECT COUNT(*) FROM docs"), "count"));
  int64_t num_bytes = 0;
  for (const TinyDocument& document : TinyDocuments()) num_bytes += std::ssize(document.text);
  EXPECT_EQ(Number(shown, "text_bytes"), num_bytes);
  EXPECT_EQ(Text(shown, "kv_cache"), "lazy");
  EXPECT_EQ(Number(shown, "kv_entries"), 0);
}

TEST_F(CollectionStatementsTest, DescribeListsColumnsAndOptions) {
  CreateDocs();
  Run("CREATE COLLECTION c (lang VARCHAR, year INT, tags VARCHAR[], seen TIMESTAMP) "
      "WITH (chunk_tokens = 64, kv_cache = 'off')");
  const auto described = Run("DESCRIBE c");
  std::string columns;
  for (size_t row = 0; row < described.rows.size(); ++row) {
    if (Text(described, "kind", row) != "implicit") {
      columns += Text(described, "column", row) + " " + Text(described, "type", row) + " " +
                 Text(described, "help", row) + "; ";
    }
  }
  EXPECT_NE(columns.find("lang VARCHAR"), std::string::npos) << columns;
  EXPECT_NE(columns.find("tags VARCHAR[]"), std::string::npos) << columns;
  EXPECT_NE(columns.find("seen TIMESTAMP"), std::string::npos) << columns;
  EXPECT_NE(columns.find("chunk_tokens NULL 64"), std::string::npos) << columns;
  EXPECT_NE(columns.find("kv_cache NULL off"), std::string::npos) << columns;
  EXPECT_EQ(columns.find("column_type"), std::string::npos) << columns;
  EXPECT_EQ(Fail("DESCRIBE d").error_class, query::ErrorClass::kCatalog);
}

TEST_F(CollectionStatementsTest, DropTakesEverythingAndQueuedCaches) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md'");
  Run("ANSWER 'What is the harbour?' FROM docs WITH (max_tokens = 4, min_score = -1)");
  Run("DROP COLLECTION docs");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 0);
  EXPECT_TRUE(Run("SHOW COLLECTIONS").rows.empty());
  const auto error = Fail("SEARCH 'harbour' IN docs");
  EXPECT_EQ(error.message, "collection \"docs\" does not exist");
  EXPECT_TRUE(HasNotice(Run("DROP COLLECTION IF EXISTS docs"), "does not exist, nothing changed"));
  // A collection of the same name begins anew.
  Run("CREATE COLLECTION docs");
  EXPECT_TRUE(HasNotice(Run("SEARCH 'harbour' IN docs"), "holds no documents yet"));
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 0);
}

TEST_F(CollectionStatementsTest, TwoCollectionsDoNotSeeEachOther) {
  CreateFilledDocs();
  Run("CREATE COLLECTION other WITH (chunk_tokens = 48)");
  Run("INSERT INTO other (id, content) VALUES ('x', 'The harbour was built in 1843.')");
  EXPECT_EQ(Run("SEARCH 'harbour' IN other LIMIT 5").rows.size(), 1u);
  for (size_t row = 0; row < 5; ++row) {
    EXPECT_NE(Text(Run("SEARCH 'harbour' IN docs LIMIT 5"), "source", row), "x");
  }
  // Equal text in two collections has two caches.
  Run("INSERT INTO docs (id, content) VALUES ('x', 'The harbour was built in 1843.')");
  EXPECT_EQ(Number(Run("CACHE COLLECTION other"), "written"), 1);
  EXPECT_EQ(Number(Run("CACHE COLLECTION docs WHERE source = 'x'"), "written"), 1);
  Run("CLEAR CACHE FOR other");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), 1);
}

}  // namespace
}  // namespace intarsia::engine
