#include "engine/ingester.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/losing_file_system.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/storage/load_vectors.h"

namespace intarsia::engine {
namespace {

class IngesterTest : public testing::Test {
 protected:
  IngesterTest() : pool_(2), registry_(&pool_) {
    WriteTinyEmbedder(folder_ / "embedder");
    database_ = *storage::Database::Open(folder_ / "database", {});
    storage::ModelInfo model =
        *registry_.Inspect(folder_ / "embedder", storage::ModelType::kEmbedding);
    model.name = "e";
    model.id = *database_->CreateModel(model);
    embedder_ = *registry_.GetEmbedder(model);
    collection_.name = "docs";
    collection_.id = *database_->CreateCollection(collection_);
    options_.chunker.chunk_tokens = 16;
    options_.chunker.min_tokens = 0;
  }

  std::string Write(const std::string& name, const std::string& text) const {
    storage::WriteFile(folder_ / name, text);
    return folder_ / name;
  }
  Status Add(const std::vector<std::string>& paths) {
    report_ = {};
    Ingester ingester(database_.get(), collection_, embedder_.get(), nullptr, &files_);
    return ingester.AddFiles(paths, options_, nullptr, nullptr, &report_);
  }
  int64_t NumDocuments() const { return database_->Read().GetStats(collection_.id)->num_documents; }

  storage::TemporaryDirectory folder_;
  ThreadPool pool_;
  ModelRegistry registry_;
  LosingFileSystem files_;
  std::unique_ptr<storage::Database> database_;
  std::shared_ptr<const EmbeddingModel> embedder_;
  storage::CollectionInfo collection_;
  IngestOptions options_;
  IngestReport report_;
};

// Counts reports from within the first document, and cancels at one of them.
class LongFileSink final : public ProgressSink {
 public:
  void Report(const Progress& progress) override {
    if (progress.done > 0) return;
    EXPECT_GE(progress.bytes_done, bytes_done);
    bytes_done = progress.bytes_done;
    if (++num_reports == cancel_at) cancel.Cancel();
  }

  int64_t num_reports = 0;
  int64_t cancel_at = 0;
  int64_t bytes_done = 0;
  CancelToken cancel;
};

TEST_F(IngesterTest, AFileThatVanishesIsListedAndPassedOver) {
  const std::vector<std::string> paths = {
      Write("a.md", "The harbour."), Write("b.md", "The railway."), Write("c.md", "The market.")};
  files_.Lose(paths[1]);
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.num_added, 2);
  ASSERT_EQ(report_.errors.size(), 1u);
  EXPECT_EQ(report_.errors[0].source, paths[1]);
  EXPECT_EQ(report_.errors[0].stage, "read");
  EXPECT_NE(report_.errors[0].reason.find("No such file"), std::string::npos);
  files_.Damage(paths[0]);
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.num_unchanged, 1);
  EXPECT_EQ(report_.errors.size(), 2u);
  EXPECT_EQ(NumDocuments(), 2);
}

TEST_F(IngesterTest, WithOnErrorFailTheFirstBadFileEndsIt) {
  options_.on_error = OnError::kFail;
  const std::vector<std::string> paths = {Write("a.md", "The harbour."), Write("b.md", "x"),
                                          Write("c.md", "The market.")};
  files_.Lose(paths[1]);
  const Status status = Add(paths);
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find(paths[1]), std::string::npos);
  EXPECT_EQ(NumDocuments(), 0);  // Nothing of the batch that it stood in.
}

TEST_F(IngesterTest, ADocumentThatFailsToBeReadKeepsItsOldVersion) {
  const std::vector<std::string> paths = {Write("a.md", "The harbour.")};
  ASSERT_TRUE(Add(paths).ok());
  Write("a.md", "");
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.errors.size(), 1u);
  const auto view = database_->Read();
  const auto document = view.GetDocumentBySource(collection_.id, paths[0]);
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(*view.GetText(document->text_digest), "The harbour.");
}

TEST_F(IngesterTest, TheFileLimitHoldsForTheExtractedTextToo) {
  // Lower than the extractor's own limit and higher: both ways the option decides.
  const std::vector<std::string> paths = {Write("a.txt", std::string(2'000, 'x'))};
  options_.file_bytes_max = 1'999;
  ASSERT_TRUE(Add(paths).ok());
  ASSERT_EQ(report_.errors.size(), 1u);
  EXPECT_NE(report_.errors[0].reason.find("larger than the limit"), std::string::npos);
  EXPECT_TRUE(report_.errors[0].reason.ends_with("the option file_bytes_max sets another limit"));
  options_.file_bytes_max = 2'000;
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.num_added, 1);
}

TEST_F(IngesterTest, ManySmallFilesAreCommittedInBatchesAndCountedOnce) {
  std::vector<std::string> paths;
  for (int i = 0; i < 300; ++i) {
    paths.push_back(Write("f" + std::to_string(1'000 + i), "Fish " + std::to_string(i)));
  }
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.num_added, 300);
  EXPECT_EQ(report_.num_chunks, 300);
  EXPECT_EQ(NumDocuments(), 300);
  ASSERT_TRUE(Add(paths).ok());
  EXPECT_EQ(report_.num_unchanged, 300);
  options_.metadata["lang"] = storage::Value("en");
  ASSERT_TRUE(Add({paths[0]}).ok());
  EXPECT_EQ(report_.num_updated, 1);
}

TEST_F(IngesterTest, BadChunkerOptionsAreRefusedBeforeAnythingIsRead) {
  options_.chunker.chunk_tokens = 1;
  EXPECT_EQ(Add({"/nowhere"}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(report_.errors.empty());
}

TEST_F(IngesterTest, EveryChunkHasAVectorOfTheModel) {
  ASSERT_TRUE(Add({Write("a.md", "# A\n\nThe harbour of the town.\n\n# B\n\nThe market.")}).ok());
  const auto vectors = storage::LoadVectors(database_->Read(), collection_.id, embedder_->info.id);
  ASSERT_TRUE(vectors.ok());
  EXPECT_EQ(vectors->dimension, embedder_->embedder->dimension());
  EXPECT_EQ(std::ssize(vectors->ids), report_.num_chunks);
}

TEST_F(IngesterTest, ALongFileReportsProgressWhileItIsCutAndCanBeCancelled) {
  options_.chunker.chunk_tokens = 65'536;
  std::string text;
  while (text.size() < (3U << 20)) text += "The harbour of the northern town is deep. ";
  const std::vector<std::string> paths = {Write("long.txt", text)};
  Ingester ingester(database_.get(), collection_, embedder_.get(), nullptr, &files_);

  LongFileSink sink;
  sink.cancel_at = 2;
  Status status = ingester.AddFiles(paths, options_, &sink, &sink.cancel, &report_);
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(sink.num_reports, 2);
  EXPECT_EQ(NumDocuments(), 0);

  LongFileSink patient;
  report_ = {};
  status = ingester.AddFiles(paths, options_, &patient, &patient.cancel, &report_);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_GE(patient.num_reports, 3);
  EXPECT_LE(patient.bytes_done, std::ssize(text));
  EXPECT_EQ(NumDocuments(), 1);
}

}  // namespace
}  // namespace intarsia::engine
