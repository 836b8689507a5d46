// Retriever: the chunks of a collection that are nearest to a question.
//
// Keeps one search index per collection and embedding model, rebuilt from the stored vectors when
// the collection has changed. Filters apply before the k best are taken.
//
// Thread safety: thread-safe. A rebuild holds up searches of the same database.
// Lifetime: the database and the pool must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/model_registry.h"
#include "query/ast.h"
#include "query/diagnostic.h"
#include "storage/database.h"

namespace intarsia::engine {

enum class VectorScan : uint8_t { kAuto, kFlat, kBinary };

struct RetrieveParams {
  storage::CollectionInfo collection;
  const EmbeddingModel* embedder = nullptr;
  std::string_view text;
  const query::Predicate* where = nullptr;  // may be null
  int64_t limit = 10;
  VectorScan scan = VectorScan::kAuto;
};

struct RetrievedChunk {
  storage::Chunk chunk;
  storage::Document document;
  double score = 0.0;  // cosine
};

struct Retrieval {
  // What was searched, where the chunks' texts are even if they are deleted meanwhile; always set
  // by Retrieve.
  std::optional<storage::ReadView> view;
  std::vector<RetrievedChunk> chunks;  // best first
  std::vector<std::string> notices;    // why there are fewer than asked for
  // For EXPLAIN.
  std::string access_path;   // "flat scan" or "binary scan"
  int64_t num_vectors = 0;   // in the collection
  int64_t num_filtered = 0;  // that pass the filter
  int64_t num_rescored = 0;  // compared exactly
  double filter_ms = 0.0;
  double embed_ms = 0.0;
  double search_ms = 0.0;
  double build_ms = 0.0;  // of the index, if it was stale
};

class Retriever {
 public:
  Retriever(storage::Database* database, ThreadPool* pool);
  ~Retriever();

  // Errors: kBinder for a WHERE that does not fit the collection; kInput if the collection holds
  // vectors of another embedding model; kCancelled and what lies below.
  query::Outcome<Retrieval> Retrieve(const RetrieveParams& params, const CancelToken* cancel);

  // Forgets the indexes of a dropped collection.
  void Forget(storage::CollectionId id);

 private:
  struct Entry;

  // The index of a collection's present state, built if there is none.
  Result<std::shared_ptr<const Entry>> GetEntry(const storage::ReadView& view,
                                                storage::CollectionId collection,
                                                storage::ModelId model, double* build_ms);

  storage::Database* const database_;
  ThreadPool* const pool_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Entry>> entries_;  // Guarded by mutex_.
};

// The chunks of a collection that WHERE lets through, by ascending id.
// Errors: kBinder; kCancelled and what lies below.
query::Outcome<std::vector<storage::ChunkId>> MatchingChunks(
    const storage::ReadView& view, const storage::CollectionInfo& collection,
    const query::Predicate& where, const CancelToken* cancel);

}  // namespace intarsia::engine
