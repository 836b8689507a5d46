// Retriever: the chunks of a collection that fit a question best.
//
// Two legs find them: one compares vectors, the other looks for words. A hybrid search joins their
// rankings.
//
// Keeps the indexes of each collection in memory, built when they are first asked for, and takes up
// what changed before it answers. Filters apply before the k best are taken.
//
// Thread safety: thread-safe. Searches run beside each other; taking up changes holds up searches
// of the same collection.
// Lifetime: the database, the pool and the devices must outlive it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/graph_builder.h"
#include "engine/model_registry.h"
#include "engine/reranker.h"
#include "engine/text_search.h"
#include "engine/vector_index.h"
#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/rank_fusion.h"
#include "storage/database.h"

namespace intarsia::engine {

enum class SearchMode : uint8_t { kHybrid, kVector, kText };

struct RetrieveParams {
  storage::CollectionInfo collection;
  const EmbeddingModel* embedder = nullptr;  // may be null for kText
  std::string_view text;
  const query::Predicate* where = nullptr;  // may be null
  int64_t limit = 10;
  VectorScan scan = VectorScan::kAuto;
  // The device that vectors may be searched on, see SearchDevice; empty: none.
  std::function<std::optional<int32_t>()> find_device = {};
  SearchMode mode = SearchMode::kVector;
  index::TextSyntax syntax = index::TextSyntax::kWords;  // of `text`, where words are looked for
  // Of kHybrid.
  query::RankFusionOptions fusion;
  double text_weight = 1.0;
  double vector_weight = 1.0;
  int64_t text_top = 100;  // hits of a leg that are joined, at least
  int64_t vector_top = 100;
  std::string_view vector_text;  // what vectors are compared with; empty: `text`
  // Reads the question with the best chunks and ranks these again; null: nobody does.
  std::shared_ptr<const Reranker> reranker;
  int64_t rerank_top = 20;
  std::string_view rerank_text;  // the question; empty: `text`
};

struct RetrievedChunk {
  storage::Chunk chunk;
  storage::Document document;
  double score = 0.0;  // a leg's or that of the fusion; what it is ranked by unless reranked
  // Of the legs that found it: BM25, and the cosine.
  std::optional<double> text_score;
  std::optional<double> vector_score;
  std::optional<double> rerank_score;  // of those that were ranked again
};

struct Retrieval {
  // What was searched, where the chunks' texts are even if they are deleted meanwhile; always set
  // by Retrieve.
  std::optional<storage::ReadView> view;
  std::vector<RetrievedChunk> chunks;  // best first
  std::vector<std::string> notices;    // why there are fewer than asked for
  SearchMode mode = SearchMode::kVector;
  // The highest cosine of any chunk that passes the filter; not set if vectors were not compared.
  std::optional<double> best_vector_score;
  // For EXPLAIN.
  std::string access_path;        // of vectors: "flat scan" or "binary scan"
  int64_t num_vectors = 0;        // chunks in the collection
  int64_t num_vector_hits = 0;    // of the leg
  index::TextSearchResult text;   // without its hits
  int64_t num_text_hits = 0;      // of the leg
  bool is_constrained = false;    // by + or - in the text
  int64_t num_unconstrained = 0;  // chunks that these let through
  bool is_filtered = false;       // there is a WHERE
  int64_t num_filtered = 0;       // that pass the filter
  int64_t num_read = 0;           // rows that had to be read to know whether they pass
  int64_t num_rescored = 0;       // compared exactly
  // What each way to search the vectors was expected to take, by AccessPath; infinity where there
  // is none. All zero if vectors were not compared.
  std::array<double, kNumAccessPaths> predicted_ms = {};
  std::optional<VectorProfile> profile;  // of the vectors that were searched, if there is one
  // Of the graph, if it was searched and is measured.
  std::optional<index::GraphMeasure> graph_measure;
  int64_t num_reranked = 0;
  double rerank_ms = 0.0;
  double filter_ms = 0.0;
  double embed_ms = 0.0;
  double search_ms = 0.0;  // of vectors
  double text_ms = 0.0;
  double build_ms = 0.0;  // of the index, if it was stale
};

// The chunks of a collection that pass a WHERE.
struct ChunkMatches {
  storage::ReadView view;                      // in which they exist
  std::vector<storage::ChunkId> chunks;        // ascending
  std::vector<storage::DocumentId> documents;  // that they belong to, each once
};

// What is known of the indexes of a collection.
struct IndexReport {
  bool is_loaded = false;   // into memory; the other figures are 0 if it is not
  int64_t num_columns = 0;  // that are loaded, because some WHERE asked for them
  int64_t num_chunks = 0;
  int64_t row_bytes = 0;  // of the index over the columns
  int64_t num_vectors = 0;
  int64_t vector_bytes = 0;  // in memory, with the codes
  int64_t num_in_files = 0;  // of the vectors; they are read where they lie
  int64_t file_bytes = 0;
  bool has_codes = false;
  std::optional<VectorProfile> profile;  // as stored, if it is not loaded
  SearchRates rates;
  bool wants_graph = false;
  int64_t num_in_graph = 0;
  int64_t graph_bytes = 0;
  std::optional<index::GraphMeasure> graph_measure;
};

class Retriever {
 public:
  Retriever(storage::Database* database, ThreadPool* pool, FileSystem* file_system,
            const VectorIndexOptions& options, DeviceProvider* devices);
  ~Retriever();

  // Of the codes that searches have brought to devices.
  DeviceCodes* device_codes() { return &device_codes_; }

  // Errors: kBinder for a WHERE that does not fit the collection; kInput if the collection holds
  // vectors of another embedding model; kCancelled and what lies below.
  query::Outcome<Retrieval> Retrieve(const RetrieveParams& params, const CancelToken* cancel);

  // What WHERE lets through. Errors: kBinder; kCancelled and what lies below.
  query::Outcome<ChunkMatches> Match(const storage::CollectionInfo& collection,
                                     const query::Predicate& where, const CancelToken* cancel);

  // Builds the indexes of a collection that is large, so that the next search need not.
  // Errors: those of ReadView.
  Status Prepare(const storage::CollectionInfo& collection, storage::ModelId model);

  // Of the indexes as they are; builds nothing. Errors: those of ReadView.
  Result<IndexReport> Describe(const storage::CollectionInfo& collection, storage::ModelId model);

  // Waits until no index is being built in the background. Errors: kCancelled.
  Status Drain(const CancelToken* cancel) { return graphs_.Drain(cancel); }

  // Forgets the indexes of a dropped collection.
  void Forget(storage::CollectionId id);

  // Removes the files that hold copies of these collections' vectors, and forgets what is in
  // memory of them. Errors: kIo.
  Status DropCopies(const std::set<storage::CollectionId>& collections);

  // Reads and verifies the files that hold copies of vectors. Drops those that are damaged unless
  // the database is read-only; then they are made anew by the next search.
  std::vector<storage::CheckFinding> CheckFiles(const storage::CollectionInfo& collection);

 private:
  struct Access;
  struct Job;

  // What of the indexes of a collection is asked for.
  struct Needs {
    std::optional<storage::ModelId> model = {};  // whose vectors; not set: none
    VectorScan scan = VectorScan::kAuto;
    std::vector<int64_t> columns = {};  // that a WHERE uses
  };
  // The indexes of a collection in its present state, which stays as long as the Access lives.
  Result<Access> Acquire(const storage::CollectionInfo& collection, const Needs& needs);
  // Retrieve() without a second attempt.
  query::Outcome<Retrieval> RetrieveOnce(const RetrieveParams& params, const CancelToken* cancel);
  std::shared_ptr<CollectionIndex> IndexOf(storage::CollectionId id);

  // Evaluates WHERE and the + and - of the text.
  query::Failure Filter(Job* job);
  query::Failure SearchVectors(Job* job);
  Status SearchWords(Job* job);
  // Joins what the legs found.
  Status Collect(Job* job);
  // Ranks the best again, if somebody does, and leaves as many as are asked for.
  Status Rerank(Job* job) const;

  storage::Database* const database_;
  ThreadPool* const pool_;
  TextSearcher text_;
  const VectorIndexOptions options_;
  VectorFiles files_;
  DeviceCodes device_codes_;  // outlives the indexes
  std::mutex mutex_;
  // Guarded by mutex_.
  std::map<storage::CollectionId, std::shared_ptr<CollectionIndex>> indexes_;
  GraphBuilder graphs_;  // last: it works on the indexes
};

}  // namespace intarsia::engine
