// CHECK DATABASE, REPAIR DATABASE, BACKUP DATABASE, CHECK BACKUP, RESTORE DATABASE.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class MaintenanceStatementsTest : public EngineFixture {};

TEST_F(MaintenanceStatementsTest, AWholeDatabaseHasNoRowsAndANotice) {
  CreateFilledDocs();
  const auto checked = Run("CHECK DATABASE");
  EXPECT_TRUE(checked.rows.empty());
  ASSERT_EQ(checked.notices.size(), 1U);
  EXPECT_NE(checked.notices[0].find("nothing is damaged"), std::string::npos);
  EXPECT_TRUE(Run("REPAIR DATABASE").rows.empty());
}

TEST_F(MaintenanceStatementsTest, MissingVectorsAreToldAndComputedAgain) {
  CreateFilledDocs();
  const auto before = Run("SEARCH 'harbour' IN docs LIMIT 3");
  const storage::CollectionInfo docs = *engine_->database()->Read().FindCollection("docs");
  const storage::ModelInfo embedder =
      *engine_->database()->Read().FindModel(docs.options.at("embedding"));
  ChangeRows([&](storage::Rocks*, storage::RowBatch* batch) {
    const std::string prefix = storage::VectorsPrefix(embedder.id, docs.id);
    batch->DeleteRange(storage::Family::kVectors, prefix, storage::KeyAfterPrefix(prefix));
  });
  const auto checked = Run("CHECK DATABASE");
  // The vectors, and what counts them.
  ASSERT_GT(checked.rows.size(), 0U);
  std::string problem;
  for (size_t row = 0; row < checked.rows.size(); ++row) {
    EXPECT_EQ(Text(checked, "remedy", row), "REPAIR DATABASE");
    if (Text(checked, "object", row) == "collection docs") problem = Text(checked, "problem", row);
  }
  // Of the counts, the one that is wrong alone.
  EXPECT_EQ(problem, "its counts are not those of what it holds: vectors of model " +
                         embedder.name + "=10 held=0");
  const auto repaired = Run("REPAIR DATABASE");
  ASSERT_GT(repaired.rows.size(), 0U);
  for (size_t row = 0; row < repaired.rows.size(); ++row) {
    EXPECT_EQ(Text(repaired, "remedy", row), "repaired");
  }
  EXPECT_EQ(Text(repaired, "object", repaired.rows.size() - 1), "vectors of collection docs");
  EXPECT_TRUE(Run("CHECK DATABASE").rows.empty());
  EXPECT_EQ(Run("SEARCH 'harbour' IN docs LIMIT 3").rows, before.rows);
}

TEST_F(MaintenanceStatementsTest, ABackupIsTakenCheckedAndRestored) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const std::string bk = database_path() + "-bk";
  const std::string bk2 = database_path() + "-bk2";
  const std::string restored = database_path() + "-restored";
  const auto taken = Run("BACKUP DATABASE TO '" + bk + "'");
  EXPECT_GT(Number(taken, "files"), 0);
  EXPECT_GT(Number(taken, "bytes"), 0);
  EXPECT_EQ(Number(Run("CHECK BACKUP '" + bk + "'"), "bytes"), Number(taken, "bytes"));
  EXPECT_GT(
      Number(Run("BACKUP DATABASE TO '" + bk2 + "' WITH (base = '" + bk + "')"), "shared_bytes"),
      0);
  const auto answer = Run("RESTORE DATABASE FROM '" + bk2 + "' AS '" + restored + "'");
  EXPECT_EQ(answer.notices.size(), 1U);
  {
    const auto other = *Engine::Open(restored, {});
    Session session(other.get());
    const auto count = session.Execute("SELECT COUNT(*) FROM docs", {});
    ASSERT_TRUE(count.ok());
    EXPECT_EQ(count->rows[0][0], query::Value(10));
    EXPECT_EQ(other->database()->kv()->stats().num_entries, 10);
    EXPECT_TRUE(session.Execute("CHECK DATABASE", {})->rows.empty());
  }
  for (const std::string& path : {bk, bk2, restored}) std::filesystem::remove_all(path);
}

TEST_F(MaintenanceStatementsTest, WhatCannotBeDoneIsSaidPlainly) {
  CreateFilledDocs();
  const std::string inside = database_path() + "/bk";
  EXPECT_NE(Fail("BACKUP DATABASE TO '" + inside + "'").message.find("outside of the database"),
            std::string::npos);
  EXPECT_NE(Fail("BACKUP DATABASE TO '/nonexistent-root-owned/x' WITH (base = '/nowhere')")
                .message.find("no backup here"),
            std::string::npos);
  EXPECT_NE(
      Fail("CHECK BACKUP '" + database_path() + "'").message.find("a database and not a backup"),
      std::string::npos);
  EXPECT_NE(Fail("RESTORE DATABASE FROM '/nowhere' AS '/x'").message.find("no backup here"),
            std::string::npos);
  EXPECT_NE(Fail("BACKUP DATABASE TO 'x' WITH (bass = 'y')").message.find("bass"),
            std::string::npos);
}

}  // namespace
}  // namespace intarsia::engine
