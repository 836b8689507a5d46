// Vectors that are kept in files: the next opening finds them, no change is missed, and whatever
// happens to a file, searches say what the database holds.
#include "engine/vector_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "index/flat_index.h"
#include "tests/engine/engine_fixture.h"
#include "tests/storage/faulty_file_system.h"
#include "tests/storage/load_vectors.h"

namespace intarsia::engine {
namespace {

namespace fs = std::filesystem;

class VectorFilesTest : public EngineFixture {
 protected:
  VectorFilesTest() { Reopen(); }

  static EngineOptions Options(storage::AccessMode access = storage::AccessMode::kReadWrite) {
    EngineOptions options;
    options.access = access;
    options.vectors.flat_max = 40;
    options.vectors.sampled_max = 64;
    options.vectors.page_rows = 16;
    options.vectors.file_rows_min = 32;
    return options;
  }
  void Reopen() { Open(Options()); }

  void CreateMany(int count) {
    CreateDocs();
    Run("CREATE COLLECTION many (part INT)");
    Insert(0, count);
  }
  void Insert(int begin, int end) {
    const std::vector<std::string> words = TinyWords();
    std::string values;
    for (int i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      values += (i > begin ? ", (" : "(") + ("'n" + std::to_string(i)) + "', '" +
                words[at % words.size()] + " " + words[(at * 7 / 3) % words.size()] + " " +
                words[(at / words.size()) % words.size()] + " " + std::to_string(i) + "', " +
                std::to_string(i % 10) + ")";
    }
    Run("INSERT INTO many (id, content, part) VALUES " + values);
  }
  storage::CollectionInfo Many() { return *engine_->database()->Read().FindCollection("many"); }
  storage::ModelId Model() { return engine_->database()->Read().FindModel("e")->id; }

  // Names of the files, sorted.
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    if (!fs::exists(folder())) return names;
    for (const auto& entry : fs::directory_iterator(folder())) {
      names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
  }
  fs::path folder() const { return database_path() + "/index"; }
  // How many vectors are read from files, as SHOW INDEXES says it.
  int64_t RowsInFiles() {
    const auto result = Run("SHOW INDEXES FOR many");
    const query::Value* const value = result.rows[1][5].Find("rows_in_files");
    return value == nullptr ? 0 : value->AsInteger();
  }
  // The exact result over everything, from the best to the worst.
  std::vector<std::string> Ranking(const std::string& where = "") {
    std::vector<std::string> ranking;
    for (const query::Row& row : Run("SEARCH 'the harbour in spring' IN many " + where +
                                     " LIMIT 1000 WITH (scan = flat, mode = vector)")
                                     .rows) {
      ranking.push_back(row[1].AsString() + " " + query::ToJson(row[0]));
    }
    return ranking;
  }
  // The same by what stands in the database.
  void ExpectTruth(const std::string& what) {
    const storage::ReadView view = engine_->database()->Read();
    const auto vectors = storage::LoadVectors(view, Many().id, Model());
    ASSERT_TRUE(vectors.ok());
    ASSERT_EQ(std::ssize(vectors->ids), std::ssize(Ranking())) << what;
    auto flat = *index::FlatIndex::Create({.dim = vectors->dimension});
    ASSERT_TRUE(flat->Add(vectors->ids, vectors->values).ok());
    std::vector<float> query(static_cast<size_t>(vectors->dimension));
    const auto embedder = engine_->models()->GetEmbedder(*view.FindModel("e"));
    ASSERT_TRUE(embedder.ok());
    const std::string_view texts[] = {"the harbour in spring"};
    ASSERT_TRUE(
        (*embedder)->embedder->Embed(texts, model::TextRole::kQuery, query.data(), nullptr).ok());
    std::vector<std::string> expected;
    const auto hits = flat->Search({.query = query, .k = 1'000});
    ASSERT_TRUE(hits.ok()) << hits.status();
    for (const index::SearchHit& hit : *hits) {
      const storage::Chunk chunk = *view.GetChunk(hit.id);
      expected.push_back(view.GetDocument(chunk.document)->source + " " +
                         query::ToJson(query::Value(static_cast<double>(hit.score))));
    }
    EXPECT_EQ(Ranking(), expected) << what;
  }
};

TEST_F(VectorFilesTest, TheNextOpeningReadsVectorsFromTheFile) {
  CreateMany(100);
  EXPECT_TRUE(Files().empty());
  const std::vector<std::string> ranking = Ranking();
  EXPECT_EQ(Files(), (std::vector<std::string>{"vectors-2-0-96.vec"}));
  EXPECT_EQ(RowsInFiles(), 96);
  ExpectTruth("written");
  Reopen();
  EXPECT_EQ(RowsInFiles(), 0);  // Nothing is loaded yet.
  EXPECT_EQ(Ranking(), ranking);
  EXPECT_EQ(RowsInFiles(), 96);
  EXPECT_GT(Number(Run("SHOW INDEXES FOR many"), "rows", 1), 96);
  for (const std::string scan : {"binary", "graph"}) {
    EXPECT_EQ(Run("SEARCH 'harbour' IN many LIMIT 7 WITH (mode = vector, scan = " + scan + ")")
                  .rows.size(),
              7U);
  }
}

TEST_F(VectorFilesTest, SingleInsertsAreGatheredAndFilesStayFew) {
  CreateMany(50);
  Ranking();
  int num_writes = 0;
  size_t num_files_max = 0;
  std::vector<std::string> before = Files();
  for (int i = 50; i < 350; ++i) {
    Insert(i, i + 1);
    Run("SEARCH 'harbour' IN many LIMIT 3 WITH (mode = vector)");
    if (i % 100 == 0) {
      Reopen();
      Run("SEARCH 'harbour' IN many LIMIT 3 WITH (mode = vector)");
    }
    const std::vector<std::string> now = Files();
    num_writes += now == before ? 0 : 1;
    num_files_max = std::max(num_files_max, now.size());
    before = now;
  }
  EXPECT_GT(num_writes, 2);
  // One for 32 rows, and some more when codes are found anew.
  EXPECT_LE(num_writes, 60);
  EXPECT_LE(num_files_max, 4U);
  ExpectTruth("grown");
}

TEST_F(VectorFilesTest, DeletedAndReplacedDocumentsStayAway) {
  CreateMany(100);
  Ranking();
  Run("DELETE FROM many WHERE part = 3");
  Insert(40, 44);
  ExpectTruth("before");
  Reopen();
  ExpectTruth("behind an opening");
  EXPECT_EQ(RowsInFiles(), 96);
  const std::vector<std::string> found = Ranking("WHERE part = 3");
  EXPECT_EQ(found.size(), 1U);  // n43 came again.
  // In an opening that deletes before it searches.
  Reopen();
  Run("DELETE FROM many WHERE part = 4");
  ExpectTruth("deleted first");
  EXPECT_EQ(RowsInFiles(), 96);
  // More than a quarter is gone: the rows are numbered anew, and so are the files.
  Run("DELETE FROM many WHERE part > 6");
  Reopen();
  ExpectTruth("few are left");
  EXPECT_EQ(RowsInFiles(), Number(Run("SELECT COUNT(*) FROM many"), "count") / 16 * 16);
  EXPECT_EQ(Files().size(), 1U);
  Run("DELETE FROM many WHERE part >= 0");
  EXPECT_TRUE(Ranking().empty());
  Insert(0, 100);
  ExpectTruth("filled again");
}

TEST_F(VectorFilesTest, VectorsThatWereReplacedAreReadAgain) {
  CreateMany(100);
  Ranking();
  for (const bool is_open : {true, false}) {
    const auto vectors = *storage::LoadVectors(engine_->database()->Read(), Many().id, Model());
    std::vector<storage::Database::ChunkVector> rows;
    for (size_t i = 3; i < 20; ++i) {
      std::vector<float> values(static_cast<size_t>(vectors.dimension), 0.25F);
      values[i] = is_open ? 2.0F : -2.0F;
      rows.push_back({.chunk = vectors.ids[i], .values = std::move(values)});
    }
    if (!is_open) Reopen();
    ASSERT_TRUE(engine_->database()->PutVectors(Many().id, Model(), rows).ok());
    // A document beside it, so that rows have changed too.
    Insert(is_open ? 200 : 300, is_open ? 201 : 301);
    ExpectTruth(is_open ? "while they are loaded" : "before they are loaded");
    EXPECT_EQ(RowsInFiles(), 96);
    Reopen();
    ExpectTruth("behind an opening");
  }
}

TEST_F(VectorFilesTest, AFileOfALaterStateIsNotBelieved) {
  CreateMany(100);
  Close();
  const std::string earlier = database_path() + "-earlier";
  fs::copy(database_path(), earlier, fs::copy_options::recursive);
  Reopen();
  // Chunks that the earlier state does not have, in a file.
  Insert(500, 600);
  Ranking();
  ASSERT_FALSE(Files().empty());
  Close();
  fs::copy(folder(), earlier + "/index", fs::copy_options::recursive);
  fs::remove_all(database_path());
  fs::rename(earlier, database_path());
  Reopen();
  EXPECT_TRUE(Files().empty());
  // Ids are given again, for other texts.
  Insert(700, 800);
  ExpectTruth("another future");
}

TEST_F(VectorFilesTest, AFileOfOtherTextsIsNotBelieved) {
  CreateMany(100);
  Ranking();
  Close();
  const std::string other = database_path() + "-other";
  fs::copy(database_path(), other, fs::copy_options::recursive);
  // Two states that have gone on apart, as after a restored backup; the ids are the same.
  for (const int begin : {100, 300}) {
    Reopen();
    Insert(begin, begin + 60);
    Ranking();
    Close();
    fs::rename(database_path(), database_path() + "-" + std::to_string(begin));
    fs::rename(other, database_path());
    if (begin == 100) fs::copy(database_path(), other, fs::copy_options::recursive);
  }
  fs::remove_all(database_path());
  fs::rename(database_path() + "-300", database_path());
  fs::remove_all(folder());
  fs::copy(database_path() + "-100/index", folder(), fs::copy_options::recursive);
  Reopen();
  ExpectTruth("files of the other state");
}

TEST_F(VectorFilesTest, NoDamageIsAnsweredFrom) {
  CreateMany(100);
  const std::vector<std::string> ranking = Ranking();
  Close();
  const std::string path = folder() / Files().front();
  const std::string whole = storage::ReadFile(path);
  std::mt19937 random(5);
  for (int i = 0; i < 24; ++i) {
    std::string damaged = whole;
    switch (i % 4) {
      case 0:  // in the vectors
        damaged[whole.size() - 1 - random() % (96 * 24 * 4)] ^= 4;
        break;
      case 1:  // before them
        damaged[random() % (whole.size() - 96 * 24 * 4)] ^= 16;
        break;
      case 2:
        damaged.resize(random() % whole.size());
        break;
      default:
        damaged = std::string(whole.size(), static_cast<char>(i));
    }
    storage::WriteFile(path, damaged);
    Reopen();
    EXPECT_EQ(Ranking(), ranking) << i;
    EXPECT_EQ(RowsInFiles(), 96) << i;  // They are written again.
    Close();
    EXPECT_TRUE(fs::exists(path));
  }
}

// The graph reads vectors from the file as well, on a thread of its own.
TEST_F(VectorFilesTest, AGraphIsNotBuiltOverDamage) {
  CreateMany(100);
  const std::vector<std::string> ranking = Ranking();
  Close();
  const std::string path = folder() / Files().front();
  storage::FlipBit(path, std::ssize(storage::ReadFile(path)) * 8 - 12'345);
  EngineOptions options = Options();
  options.vectors.graph_at_once_max = 0;
  Open(options);
  const std::string ask = "SEARCH 'harbour' IN many LIMIT 5 WITH (scan = graph, mode = vector)";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Run(ask).rows.size(), 5U);
    ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  }
  EXPECT_EQ(Number(Run("SHOW INDEXES FOR many"), "rows", 2), 100);
  EXPECT_EQ(Ranking(), ranking);
}

TEST_F(VectorFilesTest, CheckFindsDamageAndDropsTheFile) {
  CreateMany(100);
  const std::vector<std::string> ranking = Ranking();
  EXPECT_TRUE(Run("CHECK DATABASE").rows.empty());
  Close();
  const std::string path = folder() / Files().front();
  storage::FlipBit(path, std::ssize(storage::ReadFile(path)) * 8 - 1'000);
  Open(Options(storage::AccessMode::kReadOnly));
  auto found = Run("CHECK DATABASE");
  ASSERT_EQ(found.rows.size(), 1U);
  EXPECT_NE(Text(found, "object").find("collection many"), std::string::npos);
  EXPECT_TRUE(fs::exists(path));
  EXPECT_EQ(Ranking(), ranking);
  Reopen();
  found = Run("CHECK DATABASE");
  ASSERT_EQ(found.rows.size(), 1U);
  EXPECT_NE(Text(found, "problem").find("a vector is damaged"), std::string::npos);
  EXPECT_NE(Text(found, "remedy").find("dropped"), std::string::npos);
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(Run("CHECK DATABASE").rows.empty());
  EXPECT_EQ(Ranking(), ranking);
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(VectorFilesTest, AReaderUsesFilesAndChangesNone) {
  CreateMany(100);
  const std::vector<std::string> ranking = Ranking();
  Close();
  storage::WriteFile(folder() / "vectors-2-96-112.vec", "no file of ours");
  storage::WriteFile(folder() / "vectors-2-0-64.vec.new", "half of one");
  const std::vector<std::string> files = Files();
  Open(Options(storage::AccessMode::kReadOnly));
  EXPECT_EQ(Ranking(), ranking);
  EXPECT_EQ(RowsInFiles(), 96);
  EXPECT_EQ(Files(), files);
  Reopen();
  EXPECT_EQ(Files(), (std::vector<std::string>{"vectors-2-0-96.vec"}));
}

TEST_F(VectorFilesTest, WhatCannotBeWrittenStaysInMemory) {
  storage::FaultyFileSystem files;
  EngineOptions options = Options();
  options.file_system = &files;
  Open(options);
  CreateMany(100);
  files.GrantRenames(0);
  const std::vector<std::string> ranking = Ranking();
  EXPECT_EQ(ranking.size(), 100U);
  EXPECT_TRUE(Files().empty());
  EXPECT_EQ(RowsInFiles(), 0);
  // It is not tried again with every change.
  files.GrantRenames(1);
  Insert(100, 101);
  ExpectTruth("one more");
  EXPECT_TRUE(Files().empty());
  Insert(101, 140);
  ExpectTruth("many more");
  EXPECT_EQ(RowsInFiles(), 128);
  // The disk is full in the middle of a file.
  files.Grant(2'000);
  Insert(140, 260);
  ExpectTruth("full disk");
  EXPECT_EQ(RowsInFiles(), 128);
  EXPECT_EQ(Files(), (std::vector<std::string>{"vectors-2-0-128.vec"}));
  files.GrantAll();
  Close();
}

TEST_F(VectorFilesTest, DroppedCollectionsLeaveNoFile) {
  CreateMany(100);
  Ranking();
  const std::string path = folder() / Files().front();
  const std::string bytes = storage::ReadFile(path);
  Run("DROP COLLECTION many");
  EXPECT_TRUE(Files().empty());
  Close();
  // As if the process had ended before it came to that.
  storage::WriteFile(path, bytes);
  Reopen();
  EXPECT_TRUE(Files().empty());
  Run("CREATE COLLECTION many (part INT)");
  Insert(0, 60);
  ExpectTruth("another collection of that name");
}

TEST_F(VectorFilesTest, SecureDeletionLeavesNoVectorInAFile) {
  CreateMany(100);
  Ranking();
  const storage::ReadView view = engine_->database()->Read();
  const auto vectors = *storage::LoadVectors(view, Many().id, Model());
  auto flat = *index::FlatIndex::Create({.dim = vectors.dimension});
  ASSERT_TRUE(flat->Add(vectors.ids, vectors.values).ok());
  std::vector<std::string> erased;
  for (int64_t slot = 0; slot < flat->size(); ++slot) {
    const auto chunk = *view.GetChunk(flat->ids()[static_cast<size_t>(slot)]);
    const std::string source = view.GetDocument(chunk.document)->source;
    if (!source.ends_with("7")) continue;
    const std::span<const float> row = flat->row(slot);
    erased.emplace_back(reinterpret_cast<const char*>(row.data()), row.size_bytes());
  }
  ASSERT_EQ(erased.size(), 10U);
  const auto num_left = [&] {
    int num_found = 0;
    for (const std::string& name : Files()) {
      const std::string bytes = storage::ReadFile(folder() / name);
      for (const std::string& row : erased) {
        num_found += bytes.find(row) == std::string::npos ? 0 : 1;
      }
    }
    return num_found;
  };
  EXPECT_GE(num_left(), 9);
  const auto erase = Execute("DELETE FROM many WHERE part = 7 WITH (secure = true)");
  // The view above holds the old rows, and says so; the files are gone all the same.
  EXPECT_FALSE(erase.ok());
  EXPECT_EQ(num_left(), 0);
  ExpectTruth("erased");
  EXPECT_EQ(RowsInFiles(), 96);
  EXPECT_EQ(num_left(), 0);
}

TEST_F(VectorFilesTest, BackupsAreWithoutTheFiles) {
  CreateMany(100);
  const std::vector<std::string> ranking = Ranking();
  Run("BACKUP DATABASE TO '" + database_path() + "-backup'");
  Run("RESTORE DATABASE FROM '" + database_path() + "-backup' AS '" + database_path() +
      "-restored'");
  Close();
  fs::remove_all(database_path());
  fs::rename(database_path() + "-restored", database_path());
  EXPECT_TRUE(Files().empty());
  Reopen();
  EXPECT_EQ(Ranking(), ranking);
  EXPECT_EQ(RowsInFiles(), 96);
}

}  // namespace
}  // namespace intarsia::engine
