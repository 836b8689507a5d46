// No room for another byte: a clear error, nothing half-written, and all is well with room again.
//
// The disk is full for one process, whose files may not grow beyond a limit.
#include <algorithm>
#include <filesystem>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/session.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/scenario/program.h"

namespace intarsia::client {
namespace {

class FullDiskTest : public testing::Test {
 protected:
  FullDiskTest() {
    storage::WriteFile(folder_ / "generator.gguf", engine::TinyGeneratorBytes({}));
    engine::WriteTinyEmbedder(folder_ / "embedder");
  }
  std::string database() const { return folder_ / "database"; }
  std::string SetUpSql() const {
    return "CREATE MODEL e FROM '" + (folder_ / "embedder") + "'; CREATE MODEL g FROM '" +
           (folder_ / "generator.gguf") + "' WITH (kv_gate = 'off'); CREATE COLLECTION docs";
  }
  // Text that no compression makes small.
  static std::string TextOf(int index) {
    std::mt19937 random(static_cast<uint32_t>(index));
    std::string text = "Document " + std::to_string(index) + ":";
    for (int i = 0; i < 400; ++i) text += " " + std::to_string(random());
    return text;
  }
  static std::string InsertSql(int begin, int end) {
    std::string sql;
    for (int i = begin; i < end; ++i) {
      sql += "INSERT INTO docs (id, content) VALUES ('d" + std::to_string(i) + "', '" + TextOf(i) +
             "');\n";
    }
    return sql;
  }
  static int NumAcknowledged(const std::string& out) {
    int count = 0;
    for (size_t at = 0; (at = out.find("[{\"added\":1,", at)) != std::string::npos; ++at) ++count;
    return count;
  }

  storage::TemporaryDirectory folder_;
};

TEST_F(FullDiskTest, InsertsStopWithAnErrorAndWhatWasAcknowledgedStays) {
  ASSERT_EQ(RunProgram({database(), "-c", SetUpSql()}).exit_code, 0);
  storage::WriteFile(folder_ / "script.sql", InsertSql(0, 200));
  int num_there = 0;
  for (const int64_t limit : {200'000, 400'000}) {
    SCOPED_TRACE(limit);
    storage::WriteFile(folder_ / "script.sql", InsertSql(num_there, 200));
    const ProgramEnd end =
        RunProgram({database(), "--json", "-f", folder_ / "script.sql"}, {.file_bytes_max = limit});
    EXPECT_EQ(end.exit_code, 1) << end.err;
    EXPECT_NE(end.err.find("File too large"), std::string::npos) << end.err;
    const int num_acknowledged = NumAcknowledged(end.out);
    EXPECT_GT(num_acknowledged, 0);
    EXPECT_LT(num_acknowledged, 200);
    num_there += num_acknowledged;

    auto opened = engine::Engine::Open(database(), {.num_threads = 1});
    ASSERT_TRUE(opened.ok()) << opened.status();
    engine::Session session(opened->get());
    for (int i = 0; i < num_there; ++i) {
      const auto document =
          (*opened)->database()->Read().GetDocumentBySource(1, "d" + std::to_string(i));
      ASSERT_TRUE(document.ok()) << i << ": " << document.status();
      EXPECT_EQ(*(*opened)->database()->Read().GetText(document->text_digest), TextOf(i));
    }
    // At most the statement that failed has come through all the same.
    const int64_t num_documents = (*opened)->database()->Read().GetStats(1)->num_documents;
    EXPECT_GE(num_documents, num_there);
    EXPECT_LE(num_documents, num_there + 1);
    num_there = static_cast<int>(num_documents);
    EXPECT_TRUE(session.Execute("SEARCH 'Document 3' IN docs", {}).ok());
  }
  storage::WriteFile(folder_ / "script.sql", InsertSql(num_there, num_there + 3));
  EXPECT_EQ(RunProgram({database(), "-f", folder_ / "script.sql"}).exit_code, 0);
}

TEST_F(FullDiskTest, ACopyStopsWithAnErrorAndGoesOnLater) {
  ASSERT_EQ(RunProgram({database(), "-c", SetUpSql()}).exit_code, 0);
  constexpr int kFiles = 80;
  std::filesystem::create_directory(folder_ / "documents");
  for (int i = 0; i < kFiles; ++i) {
    storage::WriteFile(folder_ / ("documents/" + std::to_string(i)), TextOf(i));
  }
  const std::string copy = "COPY docs FROM '" + (folder_ / "documents") + "'";
  const ProgramEnd end = RunProgram({database(), "-c", copy}, {.file_bytes_max = 300'000});
  EXPECT_EQ(end.exit_code, 1) << end.err;
  EXPECT_NE(end.err.find(" committed before; "), std::string::npos) << end.err;
  const ProgramEnd rest = RunProgram({database(), "--json", "-c", copy});
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_NE(rest.out.find("\"errors\":[]"), std::string::npos);
  const ProgramEnd again = RunProgram({database(), "--json", "-c", copy});
  EXPECT_NE(again.out.find("\"unchanged\":" + std::to_string(kFiles)), std::string::npos)
      << again.out;
}

TEST_F(FullDiskTest, CachesThatDoNotFitAreDoneWithout) {
  storage::WriteFile(folder_ / "script.sql", InsertSql(0, 4));
  ASSERT_EQ(RunProgram({database(), "-c", SetUpSql(), "-f", folder_ / "script.sql"}).exit_code, 0);
  const std::string ask =
      "ANSWER 'Document 3?' FROM docs WITH (min_score = -1, max_tokens = 4, k = 6, ratio = 1)";
  const ProgramEnd end =
      RunProgram({database(), "--json", "-c", ask, "-c", ask}, {.file_bytes_max = 150'000});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  const ProgramEnd cached = RunProgram({database(), "--json", "-c", "CACHE COLLECTION docs"},
                                       {.file_bytes_max = 150'000});
  EXPECT_EQ(cached.exit_code, 1) << cached.out;
  EXPECT_EQ(RunProgram({database(), "--json", "-c", "CACHE COLLECTION docs", "-c", ask}).exit_code,
            0);
}

TEST_F(FullDiskTest, ADatabaseThatCannotBeMadeSaysSo) {
  const ProgramEnd end = RunProgram({database(), "-c", "SHOW MODELS"}, {.file_bytes_max = 1'200});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_TRUE(end.err.find("File too large") != std::string::npos) << end.err;
  // What is left of it is finished by whoever comes next.
  const ProgramEnd next = RunProgram({database(), "-c", SetUpSql()});
  EXPECT_EQ(next.exit_code, 0) << next.err;
}

}  // namespace
}  // namespace intarsia::client
