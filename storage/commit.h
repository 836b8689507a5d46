// Commit: gathers the changes of one write and makes them visible and durable together.
//
// It holds the commit mutex from beginning to end, so what it reads is what it changes. Beside the
// rows asked for, it keeps the books: the counts of shared texts, the statistics of collections,
// the ids that were given and the number of the commit.
//
// Thread safety: owned by one thread.
// Lifetime: the DatabaseCore outlives it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "storage/chunk_indexer.h"
#include "storage/database_core.h"
#include "storage/kv_refs.h"

namespace intarsia::storage {

class Commit {
 public:
  explicit Commit(DatabaseCore* core);

  RowBatch* batch() { return &batch_; }
  KvRefRemoval* kv() { return &kv_removal_; }
  NextIds* next_ids() { return &core_->next_ids; }

  // The collection's statistics, to be changed; they are written by Finish with a new generation.
  // Errors: kNotFound.
  Result<CollectionStats*> Stats(CollectionId collection);
  // Begins the statistics of a new collection.
  void AddStats(CollectionId collection) { stats_[collection] = {}; }
  // Vectors of chunks that were there before are others now, or gone: who keeps copies of the
  // collection's vectors must read them again.
  void MarkVectorsChanged(CollectionId collection) { vectors_changed_.insert(collection); }
  int64_t num_bytes() const { return batch_.num_bytes() + text_bytes_; }

  // Adds a document or replaces the one with its source. `text_digest` is that of its text, which
  // lives until Finish. Errors: kNotFound for a model, kInvalidArgument for a vector's dimension.
  Result<StoredDocument> PutDocument(CollectionId collection, const NewDocument& document,
                                     const Digest& text_digest);
  // Removes the document with all that hangs on it.
  Status RemoveDocument(const Document& document);
  // Adds or replaces one vector. Errors: as PutDocument.
  Status PutVector(CollectionId collection, ModelId model, ChunkId chunk,
                   std::span<const float> values);

  // Writes everything. After an error nothing is visible. Call it once, last.
  Status Finish(Durability durability);

 private:
  struct TextChange {
    int64_t delta = 0;
    std::string_view text;
  };

  // What a collection's postings become in this commit.
  struct Postings {
    bool is_current = false;                   // they were before, and are kept so
    std::unique_ptr<ChunkIndexChange> change;  // null until chunks change
  };
  // REQUIRES of both: Stats(collection) was called, and has not been changed yet.
  Result<Postings*> PostingsOf(CollectionId collection);
  // Null if the postings are not kept. An index that cannot be kept becomes stale.
  Result<ChunkIndexChange*> ChunkIndexOf(CollectionId collection);
  void RemoveFromChunkIndex(const Document& document, ChunkIndexChange* index);
  // Stages the rows, or marks them as stale.
  Status StagePostings(uint64_t sequence);

  // Removes chunks, vectors, KV caches and one use of the text.
  Status RemoveContent(const Document& document);
  Status AddChunks(const Document& document, const NewDocument& content);
  Status AddVector(CollectionId collection, ChunkId chunk, const Embedding& embedding);
  Status StageTexts();
  // kNotFound unless it is an embedding model.
  Status CheckModel(ModelId model);
  // The row of `model`, whose dimension is or becomes `dimension`.
  Result<CollectionStats::Vectors*> VectorRow(CollectionId collection, ModelId model,
                                              int64_t dimension);

  DatabaseCore* const core_;
  const std::lock_guard<std::mutex> lock_;
  RowBatch batch_;
  KvRefRemoval kv_removal_;
  std::map<CollectionId, CollectionStats> stats_;
  std::map<CollectionId, Postings> postings_;
  std::set<CollectionId> vectors_changed_;
  std::map<Digest, TextChange> texts_;
  int64_t text_bytes_ = 0;          // Of texts that go into the batch last.
  std::map<ModelId, bool> models_;  // Those that were checked.
};

}  // namespace intarsia::storage
