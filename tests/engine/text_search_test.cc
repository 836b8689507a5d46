// SEARCH and ANSWER by words: modes, operators, what changes with documents, and an index that is
// missing or damaged.
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "index/text_rows.h"
#include "storage/keys.h"
#include "storage/rocks.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class TextSearchTest : public EngineFixture {
 protected:
  std::vector<std::string> Sources(const std::string& sql) {
    const auto found = Run(sql);
    std::vector<std::string> sources;
    for (size_t row = 0; row < found.rows.size(); ++row) {
      sources.push_back(Text(found, "source", row));
    }
    return sources;
  }
  std::vector<std::string> Words(const std::string& text, const std::string& rest = "") {
    return Sources("SEARCH '" + text + "' IN docs " + rest + " WITH (mode = text)");
  }
  void Insert(const std::string& id, const std::string& text) {
    Run("INSERT INTO docs (id, content) VALUES ('" + id + "', '" + text + "')");
  }
  // What the collection's rows of postings are, checksums included.
  int64_t NumPostingRows() {
    Close();
    auto rocks = storage::Rocks::Open(database_path() + "/rocksdb", {});
    EXPECT_TRUE(rocks.ok()) << rocks.status();
    int64_t count = 0;
    for (auto row = (*rocks)->ScanPrefix(storage::Family::kPostings, "p", nullptr); row.Valid();
         row.Next()) {
      ++count;
    }
    rocks->reset();
    Open();
    return count;
  }
};

TEST_F(TextSearchTest, WordsAreFoundInEveryForm) {
  CreateDocs();
  Insert("a", "The lamps and buildings of iron.");
  Insert("b", "He builds a boat for order 4711-B.");
  Insert("c", "Nothing of the kind.");
  EXPECT_EQ(Words("building"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(Words("4711"), (std::vector<std::string>{"b"}));
  EXPECT_EQ(Words("\"iron lamps\""), std::vector<std::string>{});
  EXPECT_EQ(Words("\"lamp and building\""), (std::vector<std::string>{"a"}));
  EXPECT_EQ(Words("+build -boat"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(Words("nothin*"), (std::vector<std::string>{"c"}));
}

TEST_F(TextSearchTest, ShortResultsAndEmptyTextsAreNoticed) {
  CreateFilledDocs();
  const auto few = Run("SEARCH 'lighthouse' IN docs WITH (mode = text)");
  EXPECT_FALSE(few.rows.empty());
  EXPECT_TRUE(HasNotice(few, " of 10 rows, because no more chunks hold a word of the text"));
  const auto none = Run("SEARCH '?!' IN docs WITH (mode = text)");
  EXPECT_TRUE(none.rows.empty());
  EXPECT_TRUE(HasNotice(none, "there are no words in the text to look for"));
  const auto filtered =
      Run("SEARCH 'harbour' IN docs WHERE source LIKE '%harbour.md' WITH (mode = text)");
  EXPECT_TRUE(HasNotice(filtered, "hold a word of the text and pass WHERE"));
  for (size_t row = 0; row < filtered.rows.size(); ++row) {
    EXPECT_EQ(Text(filtered, "source", row), DocumentPath("harbour.md"));
  }
}

TEST_F(TextSearchTest, AHybridRowHasTheScoresOfTheLegsThatFoundIt) {
  CreateFilledDocs();
  const auto hybrid = Run("SEARCH 'harbour' IN docs");
  const auto words = Run("SEARCH 'harbour' IN docs WITH (mode = text)");
  const auto vectors = Run("SEARCH 'harbour' IN docs WITH (mode = vector)");
  ASSERT_EQ(hybrid.rows.size(), 10u);
  std::map<std::string, double> fused;
  for (size_t row = 0; row < words.rows.size(); ++row) {
    EXPECT_EQ(Cell(words, "score", row), Cell(words, "text_score", row));
    EXPECT_TRUE(Cell(words, "vector_score", row).is_null());
    fused[Text(words, "chunk_id", row)] += 1.0 / (61.0 + static_cast<double>(row));
  }
  for (size_t row = 0; row < vectors.rows.size(); ++row) {
    EXPECT_EQ(Cell(vectors, "score", row), Cell(vectors, "vector_score", row));
    EXPECT_TRUE(Cell(vectors, "text_score", row).is_null());
    fused[Text(vectors, "chunk_id", row)] += 1.0 / (61.0 + static_cast<double>(row));
  }
  int64_t num_with_words = 0;
  for (size_t row = 0; row < hybrid.rows.size(); ++row) {
    EXPECT_NEAR(Cell(hybrid, "score", row).AsDouble(), fused[Text(hybrid, "chunk_id", row)], 1e-12);
    EXPECT_FALSE(Cell(hybrid, "vector_score", row).is_null());
    num_with_words += Cell(hybrid, "text_score", row).is_null() ? 0 : 1;
  }
  EXPECT_EQ(num_with_words, std::ssize(words.rows));
}

TEST_F(TextSearchTest, WeightsOfZeroLeaveOneLeg) {
  CreateFilledDocs();
  const auto order = [this](const std::string& options) {
    const auto found = Run("SEARCH 'harbour' IN docs LIMIT 2 WITH (" + options + ")");
    return std::pair(Text(found, "chunk_id"), Text(found, "chunk_id", 1));
  };
  for (const std::string fusion : {"rrf", "relative", "linear"}) {
    const std::string by = ", rank_fusion = " + fusion;
    EXPECT_EQ(order("text_weight = 0" + by), order("mode = vector")) << fusion;
    EXPECT_EQ(order("vector_weight = 0" + by), order("mode = text")) << fusion;
  }
}

TEST_F(TextSearchTest, SignsHoldForBothLegs) {
  CreateFilledDocs();
  const auto found = Run("SEARCH '+market -roof harbour' IN docs LIMIT 10");
  ASSERT_FALSE(found.rows.empty());
  EXPECT_TRUE(HasNotice(found, "because no more chunks pass the words behind + and -"));
  for (size_t row = 0; row < found.rows.size(); ++row) {
    EXPECT_NE(Text(found, "snippet", row).find("market"), std::string::npos);
    EXPECT_EQ(Text(found, "snippet", row).find("roof"), std::string::npos);
  }
  // A question is no query: its signs and quotes are text.
  Run("ANSWER 'What is -harbour \"+x?' FROM docs WITH (min_score = -1, max_tokens = 2)");
}

TEST_F(TextSearchTest, DeletedAndReplacedWordsAreGone) {
  CreateDocs();
  const int64_t num_rows = NumPostingRows();
  Insert("a", "The otter swims.");
  Insert("b", "The beaver swims.");
  EXPECT_EQ(Words("otter"), (std::vector<std::string>{"a"}));
  Insert("a", "The heron flies.");
  EXPECT_EQ(Words("otter"), std::vector<std::string>{});
  EXPECT_EQ(Words("+heron swims"), (std::vector<std::string>{"a"}));
  Open();
  EXPECT_EQ(Words("heron"), (std::vector<std::string>{"a"}));
  Run("DELETE FROM docs WHERE source = 'a'");
  EXPECT_EQ(Words("heron"), std::vector<std::string>{});
  Run("DELETE FROM docs WHERE source = 'b'");
  EXPECT_EQ(NumPostingRows(), num_rows + 1);  // The statistics.
  Insert("a", "The otter is back.");
  EXPECT_EQ(Words("otter"), (std::vector<std::string>{"a"}));
  Run("DROP COLLECTION docs");
  EXPECT_EQ(NumPostingRows(), 0);
}

TEST_F(TextSearchTest, ScoresAreThoseOfAFreshIndexAfterManyChanges) {
  CreateDocs();
  const std::vector<std::string> words = TinyWords();
  const auto text = [&](size_t i) {
    std::string joined;
    for (size_t at = 0; at < 5 + i % 7; ++at) {
      joined += words[(i * i + at * 5) % words.size()] + " ";
    }
    return joined;
  };
  for (size_t i = 0; i < 40; ++i) Insert("d" + std::to_string(i % 25), text(i));
  Run("DELETE FROM docs WHERE source LIKE 'd1%'");
  Run("CREATE COLLECTION fresh WITH (chunk_tokens = 48, min_tokens = 8)");
  const auto rows = Run("SELECT source, content FROM docs ORDER BY source");
  for (const query::Row& row : rows.rows) {
    Run("INSERT INTO fresh (id, content) VALUES ('" + row[0].AsString() + "', '" +
        row[1].AsString() + "')");
  }
  for (const std::string& word : words) {
    const auto kept = Run("SEARCH '" + word + " harbour' IN docs LIMIT 50 WITH (mode = text)");
    const auto built = Run("SEARCH '" + word + " harbour' IN fresh LIMIT 50 WITH (mode = text)");
    ASSERT_EQ(kept.rows.size(), built.rows.size()) << word;
    std::map<std::string, double> scores;
    for (size_t row = 0; row < kept.rows.size(); ++row) {
      scores[Text(kept, "source", row)] = Cell(kept, "score", row).AsDouble();
    }
    for (size_t row = 0; row < built.rows.size(); ++row) {
      EXPECT_EQ(scores[Text(built, "source", row)], Cell(built, "score", row).AsDouble()) << word;
    }
  }
}

TEST_F(TextSearchTest, ADatabaseWithoutPostingsGetsThemOnFirstNeed) {
  CreateFilledDocs();
  const auto before = Words("harbour");
  ASSERT_FALSE(before.empty());
  ChangeRows([](storage::Rocks*, storage::RowBatch* batch) {
    batch->DeleteRange(storage::Family::kPostings, "", "\xff");
  });
  const auto hybrid = Run("SEARCH 'harbour' IN docs");
  EXPECT_TRUE(HasNotice(hybrid, "built the text index of collection docs"));
  EXPECT_TRUE(Run("SEARCH 'harbour' IN docs").notices.empty());
  EXPECT_EQ(Words("harbour"), before);
}

TEST_F(TextSearchTest, PostingsThatAnOlderProgramLeftBehindAreBuiltAnew) {
  CreateFilledDocs();
  const auto before = Words("harbour");
  ChangeRows([](storage::Rocks*, storage::RowBatch* batch) {
    // As if documents had been written without them.
    batch->Put(storage::Family::kPostings, storage::PostingsMarkKey(1),
               std::string("\1\0\0\0\0\0\0\0", 8));
  });
  Insert("new", "The harbour again.");
  const auto found = Run("SEARCH 'harbour' IN docs WITH (mode = text)");
  EXPECT_TRUE(HasNotice(found, "built the text index"));
  EXPECT_EQ(found.rows.size(), before.size() + 1);
}

TEST_F(TextSearchTest, DamagedPostingsAreBuiltAnewAndNeverWrong) {
  CreateFilledDocs();
  const auto before = Words("harbour water");
  std::vector<std::pair<std::string, std::string>> rows;
  ChangeRows([&](storage::Rocks* rocks, storage::RowBatch*) {
    for (auto row = rocks->ScanPrefix(storage::Family::kPostings, "p", nullptr); row.Valid();
         row.Next()) {
      rows.emplace_back(row.key(), *row.Body());
    }
  });
  int num_rebuilt = 0;
  for (size_t i = 0; i < rows.size(); i += 7) {
    ChangeRows([&](storage::Rocks*, storage::RowBatch* batch) {
      // Well-formed records of nonsense, and records that are gone.
      if (i % 2 == 0) {
        batch->Put(storage::Family::kPostings, rows[i].first,
                   rows[i].second.substr(0, rows[i].second.size() / 2));
      } else {
        batch->Delete(storage::Family::kPostings, rows[i].first);
      }
    });
    const auto found = Run("SEARCH 'harbour water' IN docs WITH (mode = text)");
    if (HasNotice(found, "was damaged and is built anew")) {
      ++num_rebuilt;
      EXPECT_EQ(Words("harbour water"), before);
    }
  }
  ChangeRows([&](storage::Rocks*, storage::RowBatch* batch) {
    for (const auto& [key, body] : rows) {
      batch->Put(storage::Family::kPostings, key, body.substr(0, body.size() / 2));
    }
  });
  EXPECT_GT(num_rebuilt, 0);
  // A commit goes on without them, and they are stale then.
  Insert("new", "A walrus.");
  EXPECT_EQ(Words("walrus"), (std::vector<std::string>{"new"}));
  EXPECT_EQ(Words("harbour water"), before);
}

TEST_F(TextSearchTest, StatisticsThatAreLostAreBuiltAnew) {
  CreateFilledDocs();
  const auto before = Words("harbour water");
  ASSERT_FALSE(before.empty());
  ChangeRows([](storage::Rocks*, storage::RowBatch* batch) {
    batch->Delete(storage::Family::kPostings, storage::PostingsPrefix(1) + index::TextStatsKey());
  });
  const auto found = Run("SEARCH 'harbour water' IN docs WITH (mode = text)");
  EXPECT_TRUE(HasNotice(found, "was damaged and is built anew"));
  EXPECT_EQ(Words("harbour water"), before);
}

TEST_F(TextSearchTest, AReadOnlyDatabaseIsSearchedWithoutStoredPostings) {
  CreateFilledDocs();
  const auto before = Words("harbour");
  ChangeRows([](storage::Rocks*, storage::RowBatch* batch) {
    batch->DeleteRange(storage::Family::kPostings, "", "\xff");
  });
  EngineOptions options;
  options.access = storage::AccessMode::kReadOnly;
  Open(options);
  EXPECT_EQ(Words("harbour"), before);
  EXPECT_FALSE(Run("SEARCH 'harbour' IN docs").rows.empty());
}

TEST_F(TextSearchTest, ACollectionWithoutATextIndexIsSearchedByVectors) {
  CreateFilledDocs("chunk_tokens = 48, min_tokens = 8, text_index = off");
  EXPECT_EQ(NumPostingRows(), 0);
  EXPECT_TRUE(Cell(Run("SEARCH 'harbour' IN docs"), "text_score").is_null());
  for (const std::string mode : {"text", "hybrid"}) {
    const auto error = Fail("SEARCH 'harbour' IN docs WITH (mode = " + mode + ")");
    EXPECT_EQ(error.error_class, query::ErrorClass::kBinder);
    EXPECT_EQ(error.message, "collection \"docs\" has no text index");
  }
}

TEST_F(TextSearchTest, TheLanguageChoosesTheStems) {
  CreateDocs("language = german");
  Insert("a", "Die Häuser der Städte.");
  EXPECT_EQ(Words("haus stadt"), (std::vector<std::string>{"a"}));
  Run("CREATE COLLECTION plain WITH (language = none)");
  Run("INSERT INTO plain (id, content) VALUES ('a', 'The houses.')");
  EXPECT_TRUE(Sources("SEARCH 'house' IN plain WITH (mode = text)").empty());
  EXPECT_EQ(Sources("SEARCH 'HOUSES' IN plain WITH (mode = text)").size(), 1u);
  EXPECT_EQ(Fail("CREATE COLLECTION x WITH (language = klingon)").error_class,
            query::ErrorClass::kBinder);
}

}  // namespace
}  // namespace intarsia::engine
