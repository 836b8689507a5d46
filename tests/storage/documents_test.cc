#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "storage/database.h"
#include "tests/storage/load_vectors.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

class DocumentsTest : public testing::Test {
 protected:
  DocumentsTest() : database_(OpenDatabase(directory_ / "kb")) {
    model_ = Must(database_->CreateModel(SampleModel("e5", ModelType::kEmbedding)));
    docs_ = Must(database_->CreateCollection(SampleCollection("docs")));
  }

  void Reopen() {
    database_.reset();
    database_ = OpenDatabase(directory_ / "kb");
  }
  CollectionStats Stats() { return Must(database_->Read().GetStats(docs_)); }
  std::vector<ChunkId> ChunkIds() {
    std::vector<ChunkId> ids;
    Must(database_->Read().ForEachChunk(docs_, [&](const Chunk& chunk) {
      ids.push_back(chunk.id);
      return Status::Ok();
    }));
    return ids;
  }

  const TemporaryDirectory directory_;
  std::unique_ptr<Database> database_;
  ModelId model_ = 0;
  CollectionId docs_ = 0;
};

TEST_F(DocumentsTest, PutIsFoundAfterReopen) {
  const std::string text = "Refunds are accepted for 30 days after delivery.";
  const NewDocument document = SampleDocument("policies/refunds.md", text, model_);
  const StoredDocument stored = PutOne(database_.get(), docs_, document).front();
  EXPECT_EQ(stored.change, StoredDocument::Change::kAdded);
  EXPECT_EQ(stored.version, 1U);
  Reopen();

  const ReadView view = database_->Read();
  const Document found = Must(view.GetDocumentBySource(docs_, "policies/refunds.md"));
  EXPECT_EQ(found, Must(view.GetDocument(stored.id)));
  EXPECT_EQ(found.title, document.title);
  EXPECT_EQ(found.metadata, document.metadata);
  EXPECT_EQ(found.num_chunks, 5);
  EXPECT_EQ(found.text_digest, DigestOf(text));
  EXPECT_EQ(Must(view.GetText(found.text_digest)), text);
  EXPECT_EQ(Must(view.GetTextRange(found.text_digest, 25, 32)), "30 days");
  EXPECT_EQ(view.GetTextRange(found.text_digest, 25, 1000).status().code(),
            StatusCode::kInvalidArgument);

  const Chunk chunk = Must(view.GetChunk(stored.first_chunk + 2));
  EXPECT_EQ(chunk.document, stored.id);
  EXPECT_EQ(chunk.ordinal, 2);
  EXPECT_EQ(chunk.byte_begin, 20);
  EXPECT_EQ(chunk.byte_end, 30);
  EXPECT_EQ(chunk.heading_path, (std::vector<std::string>{"Top", "Part 2"}));
  EXPECT_EQ(chunk.chunker, "fixed(10)");
  std::vector<float> last;
  ASSERT_TRUE(view.ForEachVector(docs_, model_, chunk.id,
                                 [&](ChunkId id, auto vector) {
                                   if (id == chunk.id) last.assign(vector.begin(), vector.end());
                                   return Status::Ok();
                                 })
                  .ok());
  EXPECT_EQ(last, (std::vector<float>{20, 21, 22, 23}));
}

TEST_F(DocumentsTest, ReplacementRemovesTheOldChunksAndKeepsTheId) {
  const StoredDocument first =
      PutOne(database_.get(), docs_, SampleDocument("a", std::string(35, 'x'), model_)).front();
  const CollectionStats before = Stats();
  const StoredDocument second =
      PutOne(database_.get(), docs_, SampleDocument("a", "short", model_)).front();
  EXPECT_EQ(second.change, StoredDocument::Change::kReplaced);
  EXPECT_EQ(second.id, first.id);
  EXPECT_EQ(second.version, 2U);
  EXPECT_GE(second.first_chunk, first.first_chunk + 4);
  EXPECT_EQ(ChunkIds(), (std::vector<ChunkId>{second.first_chunk}));

  const ReadView view = database_->Read();
  EXPECT_EQ(view.GetChunk(first.first_chunk).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(view.GetText(DigestOf(std::string(35, 'x'))).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Must(LoadVectors(view, docs_, model_)).ids, (std::vector<ChunkId>{second.first_chunk}));
  const CollectionStats after = Stats();
  EXPECT_GT(after.generation, before.generation);
  EXPECT_EQ(after.num_documents, 1);
  EXPECT_EQ(after.num_chunks, 1);
  EXPECT_EQ(after.text_bytes, 5);
  EXPECT_EQ(after.vectors, (std::vector<CollectionStats::Vectors>{{model_, 4, 1}}));
}

TEST_F(DocumentsTest, SharedTextStaysUntilItsLastDocumentGoes) {
  const std::string text = "the same words";
  const std::vector<NewDocument> both = {SampleDocument("a", text, 0),
                                         SampleDocument("b", text, 0)};
  const auto stored = Must(database_->PutDocuments(docs_, both));
  const Digest digest = DigestOf(text);
  EXPECT_EQ(Must(database_->DeleteDocuments({{stored[0].id}})), 1);
  EXPECT_EQ(Must(database_->Read().GetText(digest)), text);
  // The text goes and comes back within one commit.
  PutOne(database_.get(), docs_, SampleDocument("b", text, 0));
  EXPECT_EQ(Must(database_->Read().GetText(digest)), text);
  EXPECT_EQ(Must(database_->DeleteDocuments({{stored[0].id, stored[1].id, 999}})), 1);
  EXPECT_EQ(database_->Read().GetText(digest).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Stats().num_documents, 0);
  EXPECT_EQ(Stats().num_chunks, 0);
  EXPECT_EQ(Stats().text_bytes, 0);
  EXPECT_TRUE(ChunkIds().empty());
}

TEST_F(DocumentsTest, FailedPutChangesNothing) {
  const StoredDocument kept =
      PutOne(database_.get(), docs_, SampleDocument("a", "old words", model_)).front();
  const CollectionStats before = Stats();
  const auto code_of = [&](const NewDocument& document) {
    const std::vector<NewDocument> batch = {SampleDocument("a", "new words", model_), document};
    return database_->PutDocuments(docs_, batch).status().code();
  };
  NewDocument bad = SampleDocument("b", "text", model_);
  bad.chunks[0].byte_end = 5;
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  bad = SampleDocument("b", "text\xff", 0);
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  bad = SampleDocument("", "text", 0);
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  bad = SampleDocument("a", "text", 0);
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  bad = SampleDocument("b", "text", model_);
  bad.chunks[0].vectors[0].values = {1, 2, 3};
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  bad.chunks[0].vectors[0].model = 99;
  EXPECT_EQ(code_of(bad), StatusCode::kNotFound);
  bad = SampleDocument("b", "text", 0);
  bad.metadata["nested"] = Value(Value::List{Value(Value::List{})});
  EXPECT_EQ(code_of(bad), StatusCode::kInvalidArgument);
  EXPECT_EQ(database_->PutDocuments(77, {{SampleDocument("c", "x", 0)}}).status().code(),
            StatusCode::kNotFound);

  EXPECT_EQ(Stats(), before);
  EXPECT_EQ(Must(database_->Read().GetDocument(kept.id)).version, 1U);
  EXPECT_EQ(Must(database_->Read().GetText(DigestOf("old words"))), "old words");
}

TEST_F(DocumentsTest, MetadataKeepsEveryType) {
  NewDocument document = SampleDocument("a", "text", 0);
  document.metadata = {{"null", Value()},
                       {"bool", Value(true)},
                       {"int", Value(int64_t{-5})},
                       {"double", Value(2.5)},
                       {"string", Value("gr\xc3\xbc\xc3\x9f")},
                       {"list", Value(Value::List{Value("a"), Value(int64_t{1}), Value()})}};
  const StoredDocument stored = PutOne(database_.get(), docs_, document).front();
  EXPECT_EQ(Must(database_->Read().GetDocument(stored.id)).metadata, document.metadata);
}

TEST_F(DocumentsTest, VectorsLoadContiguouslyByChunk) {
  PutOne(database_.get(), docs_, SampleDocument("a", std::string(25, 'a'), model_));
  PutOne(database_.get(), docs_, SampleDocument("b", std::string(15, 'b'), model_));
  const VectorSet set = Must(LoadVectors(database_->Read(), docs_, model_));
  EXPECT_EQ(set.dimension, 4);
  EXPECT_EQ(set.ids, ChunkIds());
  ASSERT_EQ(set.values.size(), 20U);
  EXPECT_EQ(set.values[4], 10.0F);
  EXPECT_EQ(set.values[19], 13.0F);
  EXPECT_TRUE(Must(LoadVectors(database_->Read(), docs_, 99)).ids.empty());
}

TEST_F(DocumentsTest, ReembeddingReplacesVectorsAndPassesOverGoneChunks) {
  const StoredDocument stored =
      PutOne(database_.get(), docs_, SampleDocument("a", std::string(25, 'a'), model_)).front();
  const ModelId large = Must(database_->CreateModel(SampleModel("big", ModelType::kEmbedding)));
  std::vector<Database::ChunkVector> rows;
  for (ChunkId id = stored.first_chunk; id < stored.first_chunk + 3; ++id) {
    rows.push_back({.chunk = id, .values = std::vector<float>(8, 1.0F)});
  }
  rows.push_back({.chunk = 1000, .values = std::vector<float>(8, 1.0F)});
  EXPECT_EQ(Must(database_->Read().VectorsChangedAt(docs_)), 0U);
  EXPECT_EQ(Must(database_->PutVectors(docs_, large, rows)), 3);
  EXPECT_EQ(Must(database_->Read().VectorsChangedAt(docs_)), Stats().generation);
  EXPECT_EQ(Must(database_->PutVectors(docs_, large, rows)), 3);
  EXPECT_EQ(Stats().vectors,
            (std::vector<CollectionStats::Vectors>{{model_, 4, 3}, {large, 8, 3}}));
  PutOne(database_.get(), docs_, SampleDocument("b", "text", 0));
  EXPECT_LT(Must(database_->Read().VectorsChangedAt(docs_)), Stats().generation);
  Must(database_->DropModel(large));
  EXPECT_EQ(Stats().vectors, (std::vector<CollectionStats::Vectors>{{model_, 4, 3}}));
  EXPECT_TRUE(Must(LoadVectors(database_->Read(), docs_, large)).ids.empty());
  const ModelId generator = Must(database_->CreateModel(SampleModel("qa", ModelType::kGenerate)));
  EXPECT_EQ(database_->PutVectors(docs_, generator, rows).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(DocumentsTest, DropCollectionRemovesEverything) {
  const CollectionId other = Must(database_->CreateCollection(SampleCollection("other")));
  PutOne(database_.get(), other, SampleDocument("a", "shared words", model_));
  std::vector<NewDocument> many;
  many.reserve(601);
  for (int i = 0; i < 600; ++i) {
    many.push_back(SampleDocument("doc" + std::to_string(i), "text " + std::to_string(i), model_));
  }
  many.push_back(SampleDocument("shared", "shared words", model_));
  const auto stored = Must(database_->PutDocuments(docs_, many));
  Must(database_->DropCollection(docs_));
  EXPECT_EQ(database_->DropCollection(docs_).code(), StatusCode::kNotFound);

  const ReadView view = database_->Read();
  EXPECT_EQ(view.GetStats(docs_).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(view.GetDocument(stored[5].id).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(view.GetChunk(stored[5].first_chunk).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(view.GetText(DigestOf("text 5")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(Must(view.GetText(DigestOf("shared words"))), "shared words");
  EXPECT_EQ(Must(LoadVectors(view, other, model_)).ids.size(), 2U);
  EXPECT_EQ(database_->PutDocuments(docs_, many).status().code(), StatusCode::kNotFound);
}

TEST_F(DocumentsTest, AViewKeepsItsStateWhileWritesGoOn) {
  const StoredDocument stored =
      PutOne(database_.get(), docs_, SampleDocument("a", "first words", model_)).front();
  const ReadView view = database_->Read();
  PutOne(database_.get(), docs_, SampleDocument("a", "second", model_));
  EXPECT_EQ(Must(database_->DeleteDocuments({{stored.id}})), 1);
  const Document document = Must(view.GetDocument(stored.id));
  EXPECT_EQ(document.version, 1U);
  EXPECT_EQ(Must(view.GetText(document.text_digest)), "first words");
  int num_chunks = 0;
  Must(view.ForEachChunkOf(document, [&](const Chunk&) {
    ++num_chunks;
    return Status::Ok();
  }));
  EXPECT_EQ(num_chunks, 2);
  EXPECT_EQ(Must(LoadVectors(view, docs_, model_)).ids.size(), 2U);
  EXPECT_EQ(
      database_->Read().ForEachChunkOf(document, [](const Chunk&) { return Status::Ok(); }).code(),
      StatusCode::kNotFound);
}

TEST_F(DocumentsTest, VisitorEndsTheWalkWithItsError) {
  for (const char* source : {"a", "b", "c"}) {
    PutOne(database_.get(), docs_, SampleDocument(source, "text", 0));
  }
  int num_seen = 0;
  const Status status = database_->Read().ForEachDocument(docs_, [&](const Document&) {
    return ++num_seen == 2 ? Status(StatusCode::kCancelled, "enough") : Status::Ok();
  });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(num_seen, 2);
}

TEST_F(DocumentsTest, ReadersSeeWholeCommitsWhileAWriterReplaces) {
  constexpr int kNumCommits = 60;
  PutOne(database_.get(), docs_, SampleDocument("a", "0", model_));
  PutOne(database_.get(), docs_, SampleDocument("b", "0", model_));
  std::atomic<bool> is_done{false};
  std::thread reader([&] {
    while (!is_done.load()) {
      const ReadView view = database_->Read();
      const Document a = Must(view.GetDocumentBySource(docs_, "a"));
      const Document b = Must(view.GetDocumentBySource(docs_, "b"));
      ASSERT_EQ(a.version, b.version);
      ASSERT_EQ(Must(view.GetText(a.text_digest)), Must(view.GetText(b.text_digest)));
      const CollectionStats stats = Must(view.GetStats(docs_));
      ASSERT_EQ(stats.num_chunks, a.num_chunks + b.num_chunks);
      ASSERT_EQ(static_cast<int64_t>(Must(LoadVectors(view, docs_, model_)).ids.size()),
                stats.num_chunks);
    }
  });
  for (int i = 1; i <= kNumCommits; ++i) {
    const std::string text(static_cast<size_t>(i), 'x');
    const std::vector<NewDocument> both = {SampleDocument("a", text, model_),
                                           SampleDocument("b", text, model_)};
    Must(database_->PutDocuments(docs_, both));
  }
  is_done.store(true);
  reader.join();
}

TEST_F(DocumentsTest, CompactReturnsTheSpaceOfDeletedRows) {
  std::vector<DocumentId> ids;
  for (int i = 0; i < 20; ++i) {
    std::string text;
    while (text.size() < 50'000) {
      text += DigestOf(std::to_string(i) + "." + std::to_string(text.size())).ToHex();
    }
    const auto stored =
        PutOne(database_.get(), docs_, SampleDocument("doc" + std::to_string(i), text, 0));
    ids.push_back(stored.front().id);
  }
  Must(database_->Compact());
  EXPECT_EQ(Must(database_->DeleteDocuments(ids)), 20);
  EXPECT_GT(Must(database_->Compact()), 200'000);
}

}  // namespace
}  // namespace intarsia::storage
