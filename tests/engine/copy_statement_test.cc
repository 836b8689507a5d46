// COPY: patterns, second runs, bad files, options.
#include <filesystem>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class CopyStatementTest : public EngineFixture {
 protected:
  std::set<std::string> Sources() {
    std::set<std::string> names;
    for (const query::Row& row : Run("SELECT source FROM docs").rows) {
      names.insert(std::filesystem::relative(row[0].AsString(), DocumentPath("")).string());
    }
    return names;
  }
};

TEST_F(CopyStatementTest, PatternsChooseFiles) {
  CreateDocs();
  for (const char* name : {"a.md", "b.txt", "below/c.md", "below/deep/d.md", ".hidden.md"}) {
    WriteDocument(name, "The harbour of " + std::string(name));
  }
  Run("COPY docs FROM '" + DocumentPath("*.md") + "'");
  EXPECT_EQ(Sources(), (std::set<std::string>{"a.md"}));
  Run("COPY docs FROM '" + DocumentPath("**/*.md") + "'");
  EXPECT_EQ(Sources(), (std::set<std::string>{"a.md", "below/c.md", "below/deep/d.md"}));
  Run("COPY docs FROM '" + DocumentPath("") + "'");
  EXPECT_EQ(Sources(), (std::set<std::string>{"a.md", "b.txt", "below/c.md", "below/deep/d.md"}));
  const auto error = Fail("COPY docs FROM '" + DocumentPath("*.pdf") + "'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kInput);
  EXPECT_EQ(error.message, "no file matches: " + DocumentPath("*.pdf"));
  EXPECT_EQ(error.position.column, 16);
}

TEST_F(CopyStatementTest, ASecondRunSkipsWhatHasNotChanged) {
  CreateFilledDocs();
  const int64_t num_chunks = Number(Run("SELECT COUNT(*) FROM docs"), "count");
  const auto again = CopyAll();
  EXPECT_EQ(Number(again, "unchanged"), 5);
  EXPECT_EQ(Number(again, "added"), 0);
  EXPECT_EQ(Number(again, "updated"), 0);
  EXPECT_EQ(Number(again, "chunks"), 0);
  Open();
  EXPECT_EQ(Number(CopyAll(), "unchanged"), 5);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), num_chunks);
}

TEST_F(CopyStatementTest, AChangedFileReplacesItsDocumentInSearchAndCaches) {
  CreateFilledDocs();
  const std::string where = " WHERE source LIKE '%market.txt'";
  const std::string old_id = Text(Run("SELECT doc_id FROM docs" + where), "doc_id");
  const std::string old_text = Text(Run("SELECT content FROM docs" + where), "content");
  Run("CACHE COLLECTION docs");
  const int64_t num_cached = Number(Run("SHOW CACHE"), "entries");
  EXPECT_NEAR(Cell(Run("SEARCH '" + old_text + "' IN docs LIMIT 1"), "vector_score").AsDouble(),
              1.0, 1e-2);

  WriteDocument("market.txt", "Ice stands in the bay until spring.\n");
  const auto copied = CopyAll();
  EXPECT_EQ(Number(copied, "updated"), 1);
  EXPECT_EQ(Number(copied, "unchanged"), 4);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), num_cached - 1);
  EXPECT_EQ(Text(Run("SELECT doc_id FROM docs" + where), "doc_id"), old_id);
  EXPECT_EQ(Text(Run("SELECT content FROM docs" + where), "content"),
            "Ice stands in the bay until spring.");
  const auto found = Run("SEARCH 'Ice stands in the bay until spring.' IN docs LIMIT 1");
  EXPECT_EQ(Text(found, "source"), DocumentPath("market.txt"));
  for (const query::Row& row : Run("SELECT content FROM docs").rows) {
    EXPECT_EQ(row[0].AsString().find("destroyed"), std::string::npos);
  }
}

TEST_F(CopyStatementTest, AnotherChunkerCutsAgain) {
  CreateFilledDocs();
  EXPECT_EQ(Number(CopyAll(), "unchanged"), 5);
  Run("CREATE COLLECTION small WITH (chunk_tokens = 16, min_tokens = 4)");
  Run("COPY small FROM '" + DocumentPath("") + "'");
  EXPECT_GT(Number(Run("SELECT COUNT(*) FROM small"), "count"),
            Number(Run("SELECT COUNT(*) FROM docs"), "count"));
}

TEST_F(CopyStatementTest, ChunksCoverEveryWordOfADocument) {
  CreateFilledDocs();
  for (const TinyDocument& document : TinyDocuments()) {
    const auto rows =
        Run("SELECT byte_start, byte_end, char_start, char_end, content FROM docs "
            "WHERE source LIKE '%" +
            document.name + "' ORDER BY chunk_no");
    int64_t end = 0;
    for (size_t row = 0; row < rows.rows.size(); ++row) {
      const int64_t begin = Number(rows, "byte_start", row);
      const std::string between =
          document.text.substr(static_cast<size_t>(end), static_cast<size_t>(begin - end));
      EXPECT_EQ(between.find_first_not_of(" \n"), std::string::npos) << document.name;
      end = Number(rows, "byte_end", row);
      const std::string content = Text(rows, "content", row);
      EXPECT_EQ(content,
                document.text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
      EXPECT_EQ(Number(rows, "char_start", row),
                CountCodePoints(document.text.substr(0, static_cast<size_t>(begin))));
      EXPECT_EQ(Number(rows, "char_end", row),
                CountCodePoints(document.text.substr(0, static_cast<size_t>(end))));
    }
    EXPECT_EQ(document.text.find_first_not_of(" \n", static_cast<size_t>(end)), std::string::npos);
  }
}

TEST_F(CopyStatementTest, BadFilesAreListedAndTheRestIsLoaded) {
  CreateDocs();
  WriteDocument("good.md", "The harbour.");
  WriteDocument("empty.md", "");
  WriteDocument("blank.md", " \n\n\t\n");
  WriteDocument("binary.txt", std::string("a\0b", 3));
  WriteDocument("picture.png", "\x89PNG");
  WriteDocument("large.txt", std::string(5'000, 'x'));
  std::filesystem::create_symlink("nowhere", DocumentPath("dangling.md"));
  const std::string sql = "COPY docs FROM '" + DocumentPath("") + "' WITH (file_bytes_max = 4000";
  const auto copied = Run(sql + ")");
  EXPECT_EQ(Number(copied, "added"), 1);
  std::string errors = query::ToJson(Cell(copied, "errors"));
  for (const char* name : {"empty.md", "blank.md", "binary.txt", "picture.png", "large.txt"}) {
    EXPECT_NE(errors.find(name), std::string::npos) << errors;
  }
  EXPECT_NE(errors.find("file is larger than the limit"), std::string::npos) << errors;
  EXPECT_EQ(Sources(), (std::set<std::string>{"good.md"}));
  const auto error = Fail(sql + ", on_error = 'fail')");
  EXPECT_NE(error.message.find(DocumentPath("binary.txt")), std::string::npos) << error.message;
}

TEST_F(CopyStatementTest, MetadataIsStoredAndCompared) {
  CreateDocs();
  Run("CREATE COLLECTION c (lang VARCHAR, year INT, tags VARCHAR[])");
  WriteDocument("a.md", "The harbour.");
  const std::string from = "COPY c FROM '" + DocumentPath("a.md") + "' METADATA ";
  EXPECT_EQ(Number(Run(from + "(lang = 'en', year = 2024, tags = ['x', 'y'])"), "added"), 1);
  EXPECT_EQ(Number(Run(from + "(lang = 'en', year = 2024, tags = ['x', 'y'])"), "unchanged"), 1);
  EXPECT_EQ(Number(Run(from + "(lang = 'de', year = 2024)"), "updated"), 1);
  const auto rows = Run("SELECT lang, year, tags FROM c");
  EXPECT_EQ(Text(rows, "lang"), "de");
  EXPECT_EQ(Number(rows, "year"), 2024);
  EXPECT_TRUE(Cell(rows, "tags").is_null());
  EXPECT_EQ(Fail(from + "(year = 'x')").error_class, query::ErrorClass::kBinder);
  EXPECT_EQ(Fail(from + "(nothing = 1)").error_class, query::ErrorClass::kBinder);
}

TEST_F(CopyStatementTest, ConflictsFollowTheOption) {
  CreateFilledDocs();
  WriteDocument("market.txt", "Ice stands in the bay.\n");
  const std::string from = "COPY docs FROM '" + DocumentPath("market.txt") + "' WITH (on_conflict";
  const auto skipped = Run(from + " = 'skip')");
  EXPECT_EQ(Number(skipped, "skipped"), 1);
  EXPECT_EQ(Number(skipped, "updated"), 0);
  const auto error = Fail(from + " = 'fail')");
  EXPECT_NE(error.message.find("document is there already"), std::string::npos);
  EXPECT_EQ(
      error.hint,
      "0 documents were committed before; remove the cause and run the statement again to go on.");
  EXPECT_EQ(Number(Run(from + " = 'overwrite')"), "updated"), 1);
}

TEST_F(CopyStatementTest, InvalidUtf8IsRepairedWithANotice) {
  CreateDocs();
  WriteDocument("bad.md", "The harbour \xFF\xFE of \xC3 Ostra.");
  const auto copied = Run("COPY docs FROM '" + DocumentPath("bad.md") + "'");
  EXPECT_EQ(Number(copied, "added"), 1);
  EXPECT_FALSE(copied.notices.empty());
  const std::string content = Text(Run("SELECT content FROM docs"), "content");
  EXPECT_EQ(FindInvalidUtf8(content), -1);
  EXPECT_NE(content.find("\uFFFD"), std::string::npos);
}

TEST_F(CopyStatementTest, CancelKeepsWhatWasCommittedAndASecondRunGoesOn) {
  // Stops the statement after some files.
  class Stopper : public ProgressSink {
   public:
    explicit Stopper(CancelToken* token) : token_(*token) {}
    void Report(const Progress& progress) override {
      if (progress.done >= 200) token_.Cancel();
    }

   private:
    CancelToken& token_;
  };
  CreateDocs();
  for (int i = 0; i < 300; ++i) {
    WriteDocument("many/" + std::to_string(1'000 + i) + ".md", "Fish " + std::to_string(i));
  }
  CancelToken token;
  Stopper stopper(&token);
  context_.cancel = &token;
  context_.progress = &stopper;
  const auto error = Fail("COPY docs FROM '" + DocumentPath("many") + "'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kCancelled);
  context_ = {};
  const int64_t num_committed = Number(Run("SELECT COUNT(*) FROM docs"), "count");
  EXPECT_GT(num_committed, 0);
  EXPECT_LT(num_committed, 300);
  EXPECT_EQ(error.hint.substr(0, error.hint.find(' ')), std::to_string(num_committed));
  const auto rest = Run("COPY docs FROM '" + DocumentPath("many") + "'");
  EXPECT_EQ(Number(rest, "unchanged"), num_committed);
  EXPECT_EQ(Number(rest, "added"), 300 - num_committed);
}

TEST_F(CopyStatementTest, ALongDocumentShowsHowManyOfItsChunksAreEmbedded) {
  class Recorder final : public ProgressSink {
   public:
    void Report(const Progress& progress) override {
      if (progress.stage == "embed") done.push_back(progress.done);
      total = progress.stage == "embed" ? progress.total : total;
    }
    std::vector<int64_t> done;
    int64_t total = 0;
  };
  CreateDocs("chunk_tokens = 16, min_tokens = 0");
  std::string text;
  for (int i = 0; i < 1'200; ++i) text += "# Ship " + std::to_string(i) + "\n\nIt sails.\n\n";
  WriteDocument("long.md", text);
  Recorder recorder;
  context_.progress = &recorder;
  const auto copied = Run("COPY docs FROM '" + DocumentPath("long.md") + "'");
  context_ = {};
  ASSERT_GT(Number(copied, "chunks"), 1'000);
  EXPECT_EQ(recorder.total, Number(copied, "chunks"));
  EXPECT_EQ(recorder.done.size(), static_cast<size_t>(recorder.total + 255) / 256);
}

TEST_F(CopyStatementTest, AnEagerCollectionHasCachesAtOnce) {
  CreateFilledDocs("chunk_tokens = 48, min_tokens = 8, kv_cache = 'eager'");
  const int64_t num_chunks = Number(Run("SELECT COUNT(*) FROM docs"), "count");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_chunks);
  Run("INSERT INTO docs (id, content) VALUES ('x', 'The railway grew.')");
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_chunks + 1);
  const auto answer =
      Run("ANSWER 'harbour?' FROM docs WITH (max_tokens = 2, min_score = -1, k = 4, ratio = 0)");
  EXPECT_EQ(Usage(answer, "recomputed_tokens"), 0);
  EXPECT_LT(Usage(answer, "fresh_tokens"), Usage(answer, "reused_tokens"));
}

TEST_F(CopyStatementTest, AnEagerCollectionWithoutAGeneratorLoadsWithANotice) {
  Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
  Run("CREATE COLLECTION docs WITH (kv_cache = 'eager')");
  WriteDocument("a.md", "The harbour.");
  const auto copied = CopyAll();
  EXPECT_EQ(Number(copied, "added"), 1);
  EXPECT_TRUE(HasNotice(copied, "no KV caches were written"));
}

}  // namespace
}  // namespace intarsia::engine
