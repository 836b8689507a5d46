// SEARCH: what is found, filters, notices, the index behind it.
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class SearchStatementTest : public EngineFixture {
 protected:
  void CreateMany(int count) {
    CreateDocs();
    Run("CREATE COLLECTION many (part INT)");
    std::string values;
    const std::vector<std::string> words = TinyWords();
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      values += (i > 0 ? ", (" : "(") + ("'n" + std::to_string(i)) + "', '" +
                words[at % words.size()] + " " + words[(at / words.size()) % words.size()] +
                " number " + std::to_string(i) + "', " + std::to_string(i % 10) + ")";
    }
    Run("INSERT INTO many (id, content, part) VALUES " + values);
  }
};

TEST_F(SearchStatementTest, AChunksOwnTextIsItsNearest) {
  CreateMany(120);
  for (const int i : {0, 7, 63, 119}) {
    const std::string where = " WHERE source = 'n" + std::to_string(i) + "'";
    const std::string text = Text(Run("SELECT content FROM many" + where), "content");
    const auto found = Run("SEARCH '" + text + "' IN many LIMIT 3");
    ASSERT_EQ(found.rows.size(), 3u);
    EXPECT_EQ(Text(found, "source"), "n" + std::to_string(i));
    EXPECT_NEAR(Cell(found, "vector_score").AsDouble(), 1.0, 1e-3);
    EXPECT_GE(Cell(found, "score", 0).AsDouble(), Cell(found, "score", 1).AsDouble());
    EXPECT_GE(Cell(found, "score", 1).AsDouble(), Cell(found, "score", 2).AsDouble());
    EXPECT_EQ(Text(found, "snippet"), text);
  }
}

TEST_F(SearchStatementTest, AFilterComesBeforeTheLimit) {
  CreateMany(120);
  const auto found = Run("SEARCH 'harbour' IN many WHERE part = 3 LIMIT 12");
  ASSERT_EQ(found.rows.size(), 12u);
  EXPECT_TRUE(found.notices.empty());
  for (size_t row = 0; row < found.rows.size(); ++row) {
    EXPECT_EQ(Text(found, "source", row).back(), '3');
  }
  const auto few = Run("SEARCH 'harbour' IN many WHERE part = 3 LIMIT 13");
  EXPECT_EQ(few.rows.size(), 12u);
  EXPECT_TRUE(HasNotice(few, "only 12 of 13 rows, because no more chunks pass WHERE"));
  const auto none = Run("SEARCH 'harbour' IN many WHERE part = 11");
  EXPECT_TRUE(none.rows.empty());
  EXPECT_TRUE(HasNotice(none, "only 0 of 10 rows"));
  EXPECT_TRUE(HasNotice(Run("SEARCH 'harbour' IN many LIMIT 500"),
                        "only 120 of 500 rows, because the collection holds no more chunks"));
  EXPECT_TRUE(Run("SEARCH 'harbour' IN many").notices.empty());
}

TEST_F(SearchStatementTest, LimitAndScanComeFromSettingsUnlessGiven) {
  CreateMany(40);
  Run("SET search.limit = 4");
  EXPECT_EQ(Run("SEARCH 'harbour' IN many").rows.size(), 4u);
  EXPECT_EQ(Run("SEARCH 'harbour' IN many LIMIT 5").rows.size(), 5u);
  Run("SET search.scan = 'binary'");
  // Too few vectors for that index: the exact scan answers instead.
  EXPECT_EQ(Run("SEARCH 'harbour' IN many").rows.size(), 4u);
  EXPECT_EQ(Run("SEARCH 'harbour' IN many WITH (scan = 'flat', snippet_chars = 5)").rows.size(),
            4u);
}

TEST_F(SearchStatementTest, ASearchForNothingIsRefusedWithItsPlace) {
  CreateFilledDocs();
  const auto error = Fail("SEARCH '  ' IN docs");
  EXPECT_EQ(error.message, "the text to search is empty");
  EXPECT_EQ(error.position.column, 8);
  EXPECT_EQ(Fail("SELECT source FROM docs SEARCH MATCH TEXT (content, 'a'), MATCH VECTOR "
                 "(embedding, EMBED(''))")
                .message,
            "the text to search is empty");
}

TEST_F(SearchStatementTest, SnippetsAreCutAtCharacters) {
  CreateFilledDocs();
  const auto found =
      Run("SEARCH 'Das Café öffnet früh' IN docs "
          "WHERE source LIKE '%größe.md' LIMIT 1 WITH (snippet_chars = 9)");
  const std::string snippet = Text(found, "snippet");
  EXPECT_TRUE(snippet.ends_with("…")) << snippet;
  EXPECT_EQ(FindInvalidUtf8(snippet), -1);
  EXPECT_EQ(CountCodePoints(snippet), 10);
}

TEST_F(SearchStatementTest, ResultsFollowEveryChangeAtOnce) {
  CreateMany(20);
  const std::string sql = "SEARCH 'A roof of ice and oil.' IN many LIMIT 1";
  EXPECT_LT(Cell(Run(sql), "vector_score").AsDouble(), 0.999);
  Run("INSERT INTO many (id, content) VALUES ('new', 'A roof of ice and oil.')");
  EXPECT_EQ(Text(Run(sql), "source"), "new");
  Open();
  EXPECT_EQ(Text(Run(sql), "source"), "new");
  Run("DELETE FROM many WHERE source = 'new'");
  EXPECT_NE(Text(Run(sql), "source"), "new");
}

TEST_F(SearchStatementTest, AnyTextThatIsNotBlankIsAQuestion) {
  CreateMany(5);
  for (const std::string text : {"?", "東京の港", "'' '' --"}) {
    EXPECT_EQ(Run("SEARCH '" + text + "' IN many").rows.size(), 5u) << text;
  }
  EXPECT_EQ(Run("SEARCH '" + std::string(100'000, 'x') + "' IN many").rows.size(), 5u);
}

TEST_F(SearchStatementTest, AReplacedEmbedderIsNoticed) {
  CreateFilledDocs();
  // Another model in the same folder, under the same name.
  WriteTinyEmbedder(embedder_path(), /*seed=*/99);
  Open();
  const auto error = Fail("SEARCH 'harbour' IN docs");
  EXPECT_EQ(error.error_class, query::ErrorClass::kCorruption);
  EXPECT_NE(error.message.find("no longer the file that was registered"), std::string::npos);
  WriteTinyEmbedder(embedder_path());
  EXPECT_FALSE(Run("SEARCH 'harbour' IN docs").rows.empty());
  // And one that the catalog knows under the name of the old one.
  WriteTinyEmbedder(folder_ / "other", /*seed=*/99);
  auto info = *engine_->database()->Read().FindModel("e");
  info.path = folder_ / "other";
  info.weights_digest =
      engine_->models()->Inspect(info.path, storage::ModelType::kEmbedding)->weights_digest;
  ASSERT_TRUE(engine_->database()->UpdateModel(info).ok());
  Open();
  for (const std::string sql :
       {"SEARCH 'harbour' IN docs", "ANSWER 'harbour?' FROM docs",
        "INSERT INTO docs (id, content) VALUES ('x', 'Ice.')", "EXPLAIN SEARCH 'a' IN docs"}) {
    EXPECT_EQ(Fail(sql).message, "model \"e\" is not the one that embedded collection \"docs\"");
  }
  EXPECT_FALSE(Run("SELECT source FROM docs").rows.empty());
}

}  // namespace
}  // namespace intarsia::engine
