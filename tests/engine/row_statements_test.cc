// INSERT, DELETE and SELECT.
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class RowStatementsTest : public EngineFixture {
 protected:
  void CreateNotes() {
    Run("CREATE MODEL e FROM '" + embedder_path() + "'");
    Run("CREATE COLLECTION notes (lang VARCHAR, year INT, tags VARCHAR[], weight DOUBLE, "
        "seen TIMESTAMP, good BOOLEAN)");
    Run("INSERT INTO notes (id, title, content, lang, year, tags, weight, seen, good) VALUES "
        "('a', 'Harbour', 'The harbour is deep.', 'en', 2024, ['x', 'y'], 0.5, "
        "'2025-01-31T12:00:00Z', TRUE), "
        "('b', 'Lampe', 'Die Lampe stands in the bay.', 'de', 2025, ['y'], 2, "
        "'2025-01-31T12:00:00.5Z', FALSE), "
        "('c', 'Fish', 'The fish of spring.', 'en', 2023, [], -1.25, '2025-01-31T11:59:59Z', "
        "TRUE)");
    Run("INSERT INTO notes (id, content) VALUES ('d', 'Nothing is said of the rock.')");
  }
  // The sources of a SELECT over notes, joined.
  std::string Sources(const std::string& clauses) {
    std::string joined;
    for (const query::Row& row : Run("SELECT source FROM notes " + clauses).rows) {
      joined += row[0].AsString();
    }
    return joined;
  }
};

TEST_F(RowStatementsTest, InsertedRowsComeBackAsTheyWere) {
  CreateNotes();
  const auto rows =
      Run("SELECT source, title, content, lang, year, tags, weight, seen, good, "
          "byte_start, byte_end FROM notes WHERE source = 'b'");
  ASSERT_EQ(rows.rows.size(), 1u);
  EXPECT_EQ(Text(rows, "title"), "Lampe");
  EXPECT_EQ(Text(rows, "content"), "Die Lampe stands in the bay.");
  EXPECT_EQ(Text(rows, "tags"), "[\"y\"]");
  EXPECT_EQ(Cell(rows, "weight"), query::Value(2.0));
  EXPECT_EQ(Text(rows, "seen"), "2025-01-31T12:00:00.5Z");
  EXPECT_EQ(Cell(rows, "good"), query::Value(false));
  EXPECT_EQ(Number(rows, "byte_end"), 28);
  const auto bare =
      Run("SELECT lang, year, tags, weight, seen, good FROM notes WHERE source = 'd'");
  for (const query::Value& cell : bare.rows[0]) EXPECT_TRUE(cell.is_null());
}

TEST_F(RowStatementsTest, InsertReplacesBySourceAndRefusesTwoOfOneSource) {
  CreateNotes();
  const auto again = Run("INSERT INTO notes (id, content) VALUES ('d', 'The rock is known.')");
  EXPECT_EQ(Number(again, "updated"), 1);
  EXPECT_EQ(Text(Run("SELECT content FROM notes WHERE source = 'd'"), "content"),
            "The rock is known.");
  EXPECT_EQ(Number(Run("INSERT INTO notes (id, content) VALUES ('d', 'The rock is known.')"),
                   "unchanged"),
            1);
  const auto error = Fail("INSERT INTO notes (id, content) VALUES ('e', 'Ice.'), ('e', 'Water.')");
  EXPECT_NE(error.message.find("same id: e"), std::string::npos) << error.message;
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM notes"), "count"), 4);
}

TEST_F(RowStatementsTest, InsertIsWholeOrNothing) {
  CreateNotes();
  Fail("INSERT INTO notes (id, content) VALUES ('e', 'Ice.'), ('f', '')");
  Fail("INSERT INTO notes (id, content) VALUES ('e', 'Ice.'), ('', 'Water.')");
  Fail("INSERT INTO notes (id, content, year) VALUES ('e', 'Ice.', 1), ('f', 'Water.', 'x')");
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM notes"), "count"), 4);
}

TEST_F(RowStatementsTest, WhereFiltersOnEveryType) {
  CreateNotes();
  EXPECT_EQ(Sources("WHERE lang = 'en'"), "ac");
  EXPECT_EQ(Sources("WHERE NOT lang = 'en'"), "b");
  EXPECT_EQ(Sources("WHERE lang IS NULL"), "d");
  EXPECT_EQ(Sources("WHERE year BETWEEN 2023 AND 2024"), "ac");
  EXPECT_EQ(Sources("WHERE year IN (2025, 1999)"), "b");
  EXPECT_EQ(Sources("WHERE tags CONTAINS 'y'"), "ab");
  EXPECT_EQ(Sources("WHERE tags IS EMPTY"), "c");
  EXPECT_EQ(Sources("WHERE weight >= 0.5"), "ab");
  EXPECT_EQ(Sources("WHERE seen > '2025-01-31T12:00:00Z'"), "b");
  EXPECT_EQ(Sources("WHERE good = TRUE"), "ac");
  EXPECT_EQ(Sources("WHERE content CONTAINS 'bay'"), "b");
  EXPECT_EQ(Sources("WHERE content LIKE 'The %'"), "ac");
  EXPECT_EQ(Sources("WHERE title = 'Harbour' OR (lang = 'en' AND year < 2024)"), "ac");
  const auto error = Fail("SELECT source FROM notes WHERE lnag = 'en'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kBinder);
  EXPECT_EQ(error.hint, "Did you mean \"lang\"?");
}

TEST_F(RowStatementsTest, OrderByComparesByTypeAndPutsNullsLast) {
  CreateNotes();
  EXPECT_EQ(Sources("ORDER BY year"), "cabd");
  EXPECT_EQ(Sources("ORDER BY year DESC"), "dbac");
  EXPECT_EQ(Sources("ORDER BY weight"), "cabd");
  // A fraction of a second follows the whole one, whatever the texts say.
  EXPECT_EQ(Sources("ORDER BY seen"), "cabd");
  EXPECT_EQ(Sources("ORDER BY good, source DESC"), "bcad");
  EXPECT_EQ(Sources("ORDER BY lang DESC, year"), "dcab");
  EXPECT_EQ(Sources("ORDER BY source LIMIT 2 OFFSET 1"), "bc");
  EXPECT_EQ(Sources("ORDER BY source LIMIT 10 OFFSET 10"), "");
  EXPECT_EQ(Sources("LIMIT 9223372036854775807 OFFSET 3"), "d");
}

TEST_F(RowStatementsTest, CountStandsAloneAndStarIsEveryColumn) {
  CreateNotes();
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM notes WHERE lang = 'en'"), "count"), 2);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM notes WHERE lang = 'fr'"), "count"), 0);
  const auto error = Fail("SELECT source, COUNT(*) FROM notes");
  EXPECT_EQ(error.range.begin, 15);
  const auto described = Run("DESCRIBE notes");
  const auto star = Run("SELECT * FROM notes LIMIT 1");
  for (size_t i = 0; i < star.columns.size(); ++i) {
    EXPECT_EQ(star.columns[i].name, Text(described, "column", i));
  }
  EXPECT_EQ(star.columns.back().name, "good");
}

TEST_F(RowStatementsTest, LimitTakesTheFirstRowsThatPassTheCondition) {
  CreateNotes();
  EXPECT_EQ(Sources("LIMIT 2"), "ab");
  EXPECT_EQ(Sources("LIMIT 2 OFFSET 1"), "bc");
  EXPECT_EQ(Sources("WHERE lang = 'en' LIMIT 1 OFFSET 1"), "c");
  EXPECT_EQ(Sources("LIMIT 0"), "");
  EXPECT_EQ(Sources("ORDER BY source LIMIT 0"), "");
  EXPECT_EQ(Sources("LIMIT 4"), "abcd");
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM notes LIMIT 1"), "count"), 4);
}

TEST_F(RowStatementsTest, ALimitOfOrderedRowsIsTheirBeginningHoweverManyThereAre) {
  CreateNotes();
  Run("CREATE COLLECTION small WITH (chunk_tokens = 16, min_tokens = 0, chunker = 'fixed')");
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += "word" + std::to_string(i) + " ";
  Run("INSERT INTO small (id, content) VALUES ('x', '" + text + "'), ('y', 'A word.')");
  // All rows but one are equal by the first column, and equal rows keep their order.
  const std::string select = "SELECT source, chunk_no FROM small ORDER BY source DESC";
  const auto all = Run(select);
  ASSERT_GT(all.rows.size(), 3'000u);
  const auto some = Run(select + " LIMIT 7 OFFSET 5");
  ASSERT_EQ(some.rows.size(), 7u);
  for (size_t i = 0; i < some.rows.size(); ++i) EXPECT_EQ(some.rows[i], all.rows[i + 5]);
}

TEST_F(RowStatementsTest, DeleteRemovesWholeDocumentsFromEveryPlace) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const int64_t num_chunks = Number(Run("SELECT COUNT(*) FROM docs"), "count");
  const std::string where = "WHERE content CONTAINS 'glass and iron is seen'";
  const int64_t num_matching = Number(Run("SELECT COUNT(*) FROM docs " + where), "count");
  EXPECT_EQ(num_matching, 1);
  const int64_t num_of_document =
      Number(Run("SELECT COUNT(*) FROM docs WHERE source LIKE '%lighthouse.md'"), "count");
  EXPECT_GT(num_of_document, num_matching);
  EXPECT_EQ(Number(Run("DELETE FROM docs " + where), "deleted"), 1);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), num_chunks - num_of_document);
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"), num_chunks - num_of_document);
  for (const query::Row& row : Run("SEARCH 'The lamp of glass and iron' IN docs LIMIT 100").rows) {
    EXPECT_EQ(row[1].AsString().find("lighthouse"), std::string::npos);
  }
  EXPECT_EQ(Number(Run("DELETE FROM docs " + where), "deleted"), 0);
  EXPECT_EQ(Number(CopyAll(), "added"), 1);
}

TEST_F(RowStatementsTest, ADeletedDocumentDoesNotComeBackFromTheQueue) {
  CreateFilledDocs();
  Run("ANSWER 'harbour?' FROM docs WITH (max_tokens = 1, min_score = -1, k = 100)");
  Run("DELETE FROM docs WHERE source LIKE '%harbour.md'");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE FOR docs"), "entries"),
            Number(Run("SELECT COUNT(*) FROM docs"), "count"));
}

TEST_F(RowStatementsTest, ALargeDocumentIsSelectedInLinearTime) {
  CreateNotes();
  Run("CREATE COLLECTION small WITH (chunk_tokens = 16, min_tokens = 0, chunker = 'fixed')");
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += "Größe " + std::to_string(i) + " ";
  Run("INSERT INTO small (id, content) VALUES ('large', '" + text + "')");
  const auto rows =
      Run("SELECT content, byte_end, char_end FROM small WHERE content CONTAINS '1' "
          "ORDER BY chunk_no DESC LIMIT 1");
  EXPECT_EQ(Number(rows, "byte_end"), std::ssize(text) - 1);
  EXPECT_EQ(Number(rows, "char_end"), CountCodePoints(text) - 1);
}

}  // namespace
}  // namespace intarsia::engine
