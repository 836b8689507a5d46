// What the indexes of a collection say, after any changes, against reading every row.
#include "engine/row_index.h"

#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "query/parser.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class RowIndexTest : public EngineFixture {
 protected:
  void CreateNotes() {
    CreateDocs();
    Run("CREATE COLLECTION notes (part INT, lang VARCHAR, tags VARCHAR[]) "
        "WITH (chunk_tokens = 16, min_tokens = 4)");
  }
  // Adds or replaces the document `name`.
  void Put(int name) {
    const std::vector<std::string> words = TinyWords();
    std::string text;
    for (int i = 2 + Below(60); i > 0; --i) text += words[random_() % words.size()] + " ";
    const std::string lang = Below(4) == 0 ? "NULL" : Below(2) == 0 ? "'en'" : "'de'";
    const std::string tags = Below(3) == 0 ? "[]" : Below(2) == 0 ? "['x', 'y']" : "NULL";
    Run("INSERT INTO notes (id, content, part, lang, tags) VALUES ('n" + std::to_string(name) +
        "', '" + text + "', " + std::to_string(Below(5)) + ", " + lang + ", " + tags + ")");
  }
  int Below(int end) { return static_cast<int>(random_() % static_cast<uint32_t>(end)); }

  std::set<std::string> BySelect(const std::string& where) {
    std::set<std::string> ids;
    for (const query::Row& row : Run("SELECT chunk_id FROM notes WHERE " + where).rows) {
      ids.insert(row[0].AsString());
    }
    return ids;
  }
  std::set<std::string> ByIndex(const std::string& where) {
    const auto statement = query::ParseStatement("DELETE FROM notes WHERE " + where);
    const auto collection = *engine_->database()->Read().FindCollection("notes");
    const auto matches =
        engine_->retriever()->Match(collection, std::get<query::Delete>(*statement).where, nullptr);
    std::set<std::string> ids;
    std::set<storage::DocumentId> documents;
    for (const storage::ChunkId id : matches->chunks) {
      ids.insert(std::to_string(id));
      documents.insert(matches->view.GetChunk(id)->document);
    }
    EXPECT_EQ(std::set<storage::DocumentId>(matches->documents.begin(), matches->documents.end()),
              documents);
    EXPECT_EQ(documents.size(), matches->documents.size());
    return ids;
  }
  std::set<std::string> BySearch(const std::string& where) {
    std::set<std::string> ids;
    for (const query::Row& row :
         Run("SEARCH 'harbour' IN notes WHERE " + where + " LIMIT 5000").rows) {
      ids.insert(row[6].AsString());
    }
    return ids;
  }

  std::mt19937 random_{11};
};

TEST_F(RowIndexTest, FollowsRandomChangesExactly) {
  CreateNotes();
  const std::vector<std::string> conditions = {"part >= 2",
                                               "lang = 'en' AND part < 4",
                                               "NOT (lang = 'de' OR tags CONTAINS 'x')",
                                               "tags IS EMPTY OR lang IS NULL",
                                               "source LIKE 'n1%'",
                                               "chunk_no = 0",
                                               "byte_start > 40 AND part < 3",
                                               "heading IS NULL OR byte_end < 90",
                                               "part IN (1, 3) AND content LIKE '%a%'",
                                               "content CONTAINS 'harbour' OR part = 0",
                                               "char_start > 20",
                                               "chunk_id != '3'"};
  for (int step = 0; step < 25; ++step) {
    for (int i = Below(6); i >= 0; --i) Put(Below(30));
    if (Below(3) == 0) Run("DELETE FROM notes WHERE source = 'n" + std::to_string(Below(30)) + "'");
    if (step == 12) Run("DELETE FROM notes WHERE part = 1");
    const std::string& where = conditions[static_cast<size_t>(step) % conditions.size()];
    const std::set<std::string> expected = BySelect(where);
    ASSERT_EQ(ByIndex(where), expected) << step << " " << where;
    ASSERT_EQ(BySearch(where), expected) << step << " " << where;
  }
  std::vector<std::set<std::string>> before;
  for (const std::string& where : conditions) {
    ASSERT_EQ(ByIndex(where), BySelect(where)) << where;
    before.push_back(ByIndex(where));
  }
  Open();  // Everything is built anew.
  for (size_t i = 0; i < conditions.size(); ++i) EXPECT_EQ(ByIndex(conditions[i]), before[i]);
  Run("DELETE FROM notes WHERE chunk_no >= 0");
  EXPECT_TRUE(ByIndex("chunk_no >= 0").empty());
  EXPECT_TRUE(BySearch("chunk_no >= 0").empty());
}

TEST_F(RowIndexTest, ADroppedCollectionLeavesNothingBehind) {
  CreateNotes();
  Put(1);
  EXPECT_FALSE(BySearch("part >= 0").empty());
  Run("DROP COLLECTION notes");
  Run("CREATE COLLECTION notes (part INT, lang VARCHAR, tags VARCHAR[])");
  EXPECT_TRUE(ByIndex("chunk_no >= 0").empty());
  Put(2);
  EXPECT_EQ(BySearch("part >= 0"), BySelect("part >= 0"));
}

TEST_F(RowIndexTest, ExplainShowsSelectivityAndRowsRead) {
  CreateNotes();
  for (int name = 0; name < 8; ++name) Put(name);
  const auto has = [this](const std::string& where, const std::string& line) {
    for (const query::Row& row : Run("EXPLAIN SEARCH 'a' IN notes WHERE " + where).rows) {
      if (row[0].AsString().find(line) != std::string::npos) return true;
    }
    return false;
  };
  EXPECT_TRUE(has("part >= 0", "WHERE by index: selectivity 100 %, 0 rows read for it"));
  const int64_t num_chunks = Number(Run("SELECT COUNT(*) FROM notes"), "count");
  EXPECT_TRUE(has("content LIKE '%'", "WHERE by index: selectivity 100 %, " +
                                          std::to_string(num_chunks) + " rows read for it"));
}

TEST_F(RowIndexTest, SearchesBesideWritesSeeWholeStates) {
  CreateNotes();
  Put(0);
  std::thread writer([this] {
    Session session(engine_.get());
    for (int i = 0; i < 20; ++i) {
      // Two documents with one commit: a search sees both or none.
      const std::string number = std::to_string(i);
      EXPECT_TRUE(session
                      .Execute("INSERT INTO notes (id, content, part) VALUES ('a" + number +
                                   "', 'harbour', 7), ('b" + number + "', 'harbour', 7)",
                               {})
                      .ok());
    }
  });
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(BySearch("part = 7 AND chunk_no = 0").size() % 2, 0u);
  }
  writer.join();
  EXPECT_EQ(BySearch("part = 7 AND chunk_no = 0").size(), 40u);
}

}  // namespace
}  // namespace intarsia::engine
