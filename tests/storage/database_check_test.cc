// Check and repair: every kind of damage is found, told with its remedy, and made good where it can
// be.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/database.h"
#include "storage/record_codec.h"
#include "storage/rocks.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

class DatabaseCheckTest : public testing::Test {
 protected:
  DatabaseCheckTest() {
    Open();
    embedder_ = Must(database_->CreateModel(SampleModel("e5", ModelType::kEmbedding)));
    CollectionInfo docs = SampleCollection("docs");
    docs.options["embedding"] = "e5";
    docs_ = Must(database_->CreateCollection(docs));
    for (int i = 0; i < 5; ++i) {
      const std::string name = "document " + std::to_string(i);
      // The first two share a text.
      const std::string text = i < 2 ? "a text that two documents have" : "the text of " + name;
      const StoredDocument stored =
          PutOne(database_.get(), docs_, SampleDocument(name, text, embedder_)).front();
      stored_.push_back(stored);
      PutCache(database_.get(), SampleCache(name, 2, 5'000),
               {.collection = docs_, .document = stored.id, .chunk = stored.first_chunk});
    }
  }
  void Open() { database_ = OpenDatabase(folder_ / "kb"); }

  // Changes rows behind the database's back, with checksums that fit.
  template <typename Change>
  void ChangeRows(const Change& change) {
    database_.reset();
    {
      const auto rocks = Must(Rocks::Open(folder_ / "kb/rocksdb", {}));
      RowBatch batch(rocks.get());
      change(&batch);
      Must(rocks->Write(&batch, Durability::kSync));
    }
    Open();
  }
  CheckReport Check(CheckMode mode = CheckMode::kCheck) {
    return Must(database_->Check({.mode = mode, .cancel = nullptr, .on_progress = {}}));
  }
  // Fails unless there is one finding, about `object`, with `remedy`.
  void ExpectOne(const CheckReport& report, const std::string& object, const std::string& remedy) {
    ASSERT_EQ(report.num_findings, 1);
    EXPECT_NE(report.findings[0].object.find(object), std::string::npos)
        << report.findings[0].object;
    EXPECT_NE(report.findings[0].remedy.find(remedy), std::string::npos)
        << report.findings[0].remedy;
    EXPECT_FALSE(report.findings[0].problem.empty());
  }

  TemporaryDirectory folder_;
  std::unique_ptr<Database> database_;
  ModelId embedder_ = 0;
  CollectionId docs_ = 0;
  std::vector<StoredDocument> stored_;
};

TEST_F(DatabaseCheckTest, AWholeDatabaseHasNoFindingsAndEverythingIsCounted) {
  const CheckReport report = Check();
  EXPECT_EQ(report.num_findings, 0) << report.findings[0].object << report.findings[0].problem;
  EXPECT_EQ(report.num_documents, 5);
  EXPECT_EQ(report.num_chunks, Must(database_->Read().GetStats(docs_)).num_chunks);
  EXPECT_EQ(report.num_vectors, report.num_chunks);
  EXPECT_EQ(report.num_kv_caches, 5);
  EXPECT_GT(report.num_bytes, 5 * 2 * 5'000);
  EXPECT_TRUE(report.missing_vectors.empty());
  EXPECT_EQ(database_->kv()->stats().hits, 0);
}

TEST_F(DatabaseCheckTest, ATextThatIsAnotherIsToldWithItsDocument) {
  ChangeRows([&](RowBatch* batch) {
    batch->Put(Family::kText, TextKey(DigestOf("the text of document 3")),
               "the text of document X");
  });
  ExpectOne(Check(), "document document 3 of collection docs", "load it again");
  // No repair invents a text; the remedy that was told works.
  ExpectOne(Check(CheckMode::kRepair), "document 3", "load it again");
  Must(database_->DeleteDocuments({&stored_[3].id, 1}));
  PutOne(database_.get(), docs_, SampleDocument("document 3", "the text of document 3", embedder_));
  EXPECT_EQ(Check().num_findings, 0);
}

TEST_F(DatabaseCheckTest, ChunksThatAreMissingOrOfAnotherTextAreToldWithTheirDocument) {
  ChangeRows(
      [&](RowBatch* batch) { batch->Delete(Family::kChunks, ChunkKey(stored_[2].first_chunk)); });
  const CheckReport report = Check();
  ASSERT_GE(report.num_findings, 1);
  EXPECT_NE(report.findings[0].object.find("document 2"), std::string::npos);
  ChangeRows([&](RowBatch* batch) {
    Chunk chunk;
    chunk.id = stored_[2].first_chunk;
    chunk.collection = docs_;
    chunk.document = stored_[2].id;
    chunk.byte_end = 1'000'000;
    batch->Put(Family::kChunks, ChunkKey(chunk.id), EncodeChunk(chunk));
  });
  ExpectOne(Check(), "document 2", "load it again");
}

TEST_F(DatabaseCheckTest, WrongCountsAreRepaired) {
  CollectionStats stats = Must(database_->Read().GetStats(docs_));
  stats.num_documents += 7;
  ChangeRows([&](RowBatch* batch) {
    batch->Put(Family::kMeta, StatsKey(docs_), EncodeStats(stats));
    batch->Put(Family::kText, TextCountKey(DigestOf("the text of document 4")), EncodeNumber(9));
    batch->Delete(Family::kText, TextCountKey(DigestOf("a text that two documents have")));
    batch->Put(Family::kText, TextKey(DigestOf("nobody's")), "nobody's");
    batch->Put(Family::kText, TextCountKey(DigestOf("nobody's")), EncodeNumber(1));
  });
  EXPECT_EQ(Check().num_findings, 4);
  const CheckReport repaired = Check(CheckMode::kRepair);
  EXPECT_EQ(repaired.num_findings, 4);
  for (const CheckFinding& finding : repaired.findings) EXPECT_TRUE(finding.is_repaired);
  EXPECT_EQ(Check().num_findings, 0);
  EXPECT_EQ(Must(database_->Read().GetStats(docs_)).num_documents, 5);
  // The count that was made good keeps the shared text when one of its documents goes.
  Must(database_->DeleteDocuments({&stored_[0].id, 1}));
  EXPECT_EQ(Check().num_findings, 0);
  EXPECT_EQ(Must(database_->Read().GetText(DigestOf("a text that two documents have"))),
            "a text that two documents have");
}

TEST_F(DatabaseCheckTest, VectorsThatAreDamagedGoAndTheirChunksAreListed) {
  const ChunkId chunk = stored_[1].first_chunk;
  ChangeRows([&](RowBatch* batch) {
    batch->Put(Family::kVectors, VectorKey(embedder_, docs_, chunk), "abc");
    batch->Put(Family::kVectors, VectorKey(embedder_, docs_, 9'999), EncodeVector({{1, 2, 3, 4}}));
  });
  EXPECT_EQ(Check().num_findings, 3);  // and the count
  const CheckReport report = Check(CheckMode::kRepair);
  ASSERT_EQ(report.missing_vectors.size(), 1U);
  EXPECT_EQ(report.missing_vectors[0].chunks, std::vector<ChunkId>{chunk});
  EXPECT_EQ(report.missing_vectors[0].model, embedder_);
  const Database::ChunkVector vector = {.chunk = chunk, .values = {1, 2, 3, 4}};
  EXPECT_EQ(Must(database_->PutVectors(docs_, embedder_, {&vector, 1})), 1);
  const CheckReport after = Check();
  EXPECT_EQ(after.num_findings, 0);
  EXPECT_TRUE(after.missing_vectors.empty());
}

TEST_F(DatabaseCheckTest, DamagedCachesAreDroppedAndTold) {
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "kb/kv")) {
    FlipBit(entry.path(), 8 * 5'000);
  }
  const CheckReport report = Check();
  ExpectOne(report, "kv cache", "computed again");
  EXPECT_TRUE(report.findings[0].is_repaired);
  EXPECT_EQ(report.num_kv_caches, 5);
  const CheckReport again = Check();
  EXPECT_EQ(again.num_findings, 0);
  EXPECT_EQ(again.num_kv_caches, 4);
}

TEST_F(DatabaseCheckTest, TablesThatCannotBeReadAreToldAndThoseOfVectorsEmptied) {
  Must(database_->Compact());
  database_.reset();
  std::filesystem::path table;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "kb/rocksdb")) {
    if (entry.path().extension() != ".sst") continue;
    const std::string bytes = ReadFile(entry.path());
    if (bytes.find("vectors") != std::string::npos) table = entry.path();
  }
  ASSERT_FALSE(table.empty());
  FlipBit(table, 8 * 20);
  Open();
  const CheckReport report = Check();
  ASSERT_GE(report.num_findings, 1);
  EXPECT_NE(report.findings[0].object.find(table.string()), std::string::npos)
      << report.findings[0].object;
  EXPECT_EQ(report.findings[0].remedy, "REPAIR DATABASE");
  for (const CheckFinding& finding : report.findings) {
    EXPECT_EQ(finding.problem.find("CHECK DATABASE"), std::string::npos) << finding.problem;
  }
  const CheckReport repaired = Check(CheckMode::kRepair);
  ASSERT_EQ(repaired.missing_vectors.size(), 1U);
  std::vector<Database::ChunkVector> rows;
  for (const ChunkId chunk : repaired.missing_vectors[0].chunks) {
    rows.push_back({.chunk = chunk, .values = {1, 2, 3, 4}});
  }
  EXPECT_EQ(Must(database_->PutVectors(docs_, embedder_, rows)), std::ssize(rows));
  EXPECT_EQ(Check().num_findings, 0);
  database_.reset();
  Open();
  EXPECT_EQ(Check().num_findings, 0);
  Must(database_->Compact());
}

TEST_F(DatabaseCheckTest, ATableWhosePropertiesClaimAnIndexIsRefused) {
  Must(database_->Compact());
  database_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "kb/rocksdb")) {
    if (entry.path().extension() != ".sst") continue;
    const std::string whole = ReadFile(entry.path());
    // The list of blocks, whose offset stands in the footer, is behind the properties, which end
    // with a type of one byte and a checksum of four.
    int64_t offset = 0;
    for (size_t at = whole.size() - 52, shift = 0;; ++at, shift += 7) {
      offset |= static_cast<int64_t>(whole[at] & 0x7f) << shift;
      if ((whole[at] & 0x80) == 0) break;
    }
    FlipBit(entry.path(), (offset - 5) * 8 - 1);
    for (const AccessMode access : {AccessMode::kReadOnly, AccessMode::kReadWrite}) {
      const Status status = Database::Open(folder_ / "kb", {.access = access}).status();
      EXPECT_EQ(status.code(), StatusCode::kCorruption) << status;
      EXPECT_NE(status.message().find(entry.path().string()), std::string_view::npos) << status;
      EXPECT_NE(status.message().find("restore a backup"), std::string_view::npos) << status;
    }
    WriteFile(entry.path(), whole);
  }
  Open();
  EXPECT_EQ(Check().num_findings, 0);
}

TEST_F(DatabaseCheckTest, ACancelledRepairHasChangedNothing) {
  CollectionStats stats = Must(database_->Read().GetStats(docs_));
  stats.num_chunks += 1;
  ChangeRows(
      [&](RowBatch* batch) { batch->Put(Family::kMeta, StatsKey(docs_), EncodeStats(stats)); });
  CancelToken cancel;
  CheckOptions options = {.mode = CheckMode::kRepair, .cancel = &cancel, .on_progress = {}};
  options.on_progress = [&](std::string_view stage, int64_t, int64_t) {
    if (stage == "texts") cancel.Cancel();
  };
  EXPECT_EQ(database_->Check(options).status().code(), StatusCode::kCancelled);
  EXPECT_EQ(Must(database_->Read().GetStats(docs_)).num_chunks, stats.num_chunks);
  EXPECT_EQ(Check().num_findings, 1);
}

TEST_F(DatabaseCheckTest, AReaderMayCheckButNotRepair) {
  const auto reader = OpenDatabase(folder_ / "kb", {.access = AccessMode::kReadOnly});
  EXPECT_EQ(Must(reader->Check({})).num_findings, 0);
  EXPECT_EQ(reader->Check({.mode = CheckMode::kRepair, .cancel = nullptr, .on_progress = {}})
                .status()
                .code(),
            StatusCode::kUnsupported);
}

}  // namespace
}  // namespace intarsia::storage
