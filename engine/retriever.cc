#include "engine/retriever.h"

#include <algorithm>
#include <utility>

#include "base/stopwatch.h"
#include "engine/collection_rows.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "query/filter.h"

namespace intarsia::engine {
namespace {

// Below this many vectors the exact scan is as fast as any other.
constexpr int64_t kFlatMax = 20'000;

}  // namespace

struct Retriever::Entry {
  storage::CollectionId collection = 0;
  storage::ModelId model = 0;
  uint64_t generation = 0;
  std::unique_ptr<index::FlatIndex> flat;      // null if the collection has no vectors
  std::unique_ptr<index::BinaryIndex> binary;  // null for few vectors
};

Retriever::Retriever(storage::Database* database, ThreadPool* pool)
    : database_(database), pool_(pool) {}

Retriever::~Retriever() = default;

void Retriever::Forget(storage::CollectionId id) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(entries_, [id](const auto& entry) { return entry->collection == id; });
}

Result<std::shared_ptr<const Retriever::Entry>> Retriever::GetEntry(
    const storage::ReadView& view, storage::CollectionId collection, storage::ModelId model,
    double* build_ms) {
  const std::scoped_lock lock(mutex_);
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection));
  for (const auto& entry : entries_) {
    if (entry->collection == collection && entry->model == model &&
        entry->generation == stats.generation) {
      return std::shared_ptr<const Entry>(entry);
    }
  }
  const Stopwatch stopwatch;
  auto entry = std::make_shared<Entry>();
  entry->collection = collection;
  entry->model = model;
  entry->generation = stats.generation;
  INTARSIA_ASSIGN_OR_RETURN(const storage::VectorSet vectors, view.LoadVectors(collection, model));
  if (!vectors.ids.empty()) {
    INTARSIA_ASSIGN_OR_RETURN(entry->flat, index::FlatIndex::Create({.dim = vectors.dimension}));
    INTARSIA_RETURN_IF_ERROR(entry->flat->Add(vectors.ids, vectors.values));
    if (entry->flat->size() > kFlatMax) {
      INTARSIA_ASSIGN_OR_RETURN(entry->binary, index::BinaryIndex::Build(*entry->flat, {}, pool_));
    }
  }
  std::erase_if(entries_, [&](const auto& old) {
    return old->collection == collection && old->model == model;
  });
  entries_.push_back(entry);
  *build_ms = stopwatch.milliseconds();
  return std::shared_ptr<const Entry>(entry);
}

query::Outcome<Retrieval> Retriever::Retrieve(const RetrieveParams& params,
                                              const CancelToken* cancel) {
  Retrieval retrieval;
  const storage::ReadView& view = retrieval.view.emplace(database_->Read());
  const auto& embedder = *params.embedder;
  INTARSIA_ASSIGN_OR_RETURN(
      const std::shared_ptr<const Entry> entry,
      GetEntry(view, params.collection.id, embedder.info.id, &retrieval.build_ms));
  retrieval.access_path = "flat scan";
  if (entry->flat == nullptr) {
    retrieval.notices.push_back("collection " + params.collection.name +
                                " holds no documents yet; load some with COPY");
    return retrieval;
  }
  retrieval.num_vectors = entry->flat->size();
  retrieval.num_filtered = retrieval.num_vectors;
  std::vector<uint64_t> bitmap;
  if (params.where != nullptr) {
    const Stopwatch stopwatch;
    INTARSIA_ASSIGN_OR_FAIL(const std::vector<storage::ChunkId> ids,
                            MatchingChunks(view, params.collection, *params.where, cancel));
    bitmap = entry->flat->FilterOf(ids);
    retrieval.num_filtered = std::ssize(ids);
    retrieval.filter_ms = stopwatch.milliseconds();
  }
  const Stopwatch embed;
  std::vector<float> vector(static_cast<size_t>(embedder.embedder->dimension()));
  const std::string_view texts[] = {params.text};
  INTARSIA_RETURN_IF_ERROR(
      embedder.embedder->Embed(texts, model::TextRole::kQuery, vector.data(), cancel));
  retrieval.embed_ms = embed.milliseconds();
  const Stopwatch search;
  std::vector<index::SearchHit> hits;
  if (retrieval.num_filtered > 0) {
    const index::SearchParams search_params = {
        .query = vector, .k = params.limit, .filter = bitmap, .pool = pool_};
    const bool is_binary = params.scan == VectorScan::kBinary ||
                           (params.scan == VectorScan::kAuto && entry->binary != nullptr);
    if (is_binary && entry->binary != nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(index::BinarySearchResult found,
                                entry->binary->Search(*entry->flat, search_params, {}));
      hits = std::move(found.hits);
      retrieval.access_path = "binary scan, rescored";
      retrieval.num_rescored = found.num_rescored;
    } else {
      INTARSIA_ASSIGN_OR_RETURN(hits, entry->flat->Search(search_params));
      retrieval.num_rescored = retrieval.num_filtered;
    }
  }
  for (const index::SearchHit& hit : hits) {
    RetrievedChunk& found = retrieval.chunks.emplace_back();
    found.score = hit.score;
    INTARSIA_ASSIGN_OR_RETURN(found.chunk, view.GetChunk(hit.id));
    INTARSIA_ASSIGN_OR_RETURN(found.document, view.GetDocument(found.chunk.document));
  }
  retrieval.search_ms = search.milliseconds();
  if (std::ssize(hits) < params.limit && params.where != nullptr) {
    retrieval.notices.push_back("only " + std::to_string(hits.size()) + " of " +
                                std::to_string(params.limit) +
                                " rows, because no more chunks pass WHERE");
  }
  return retrieval;
}

query::Outcome<std::vector<storage::ChunkId>> MatchingChunks(
    const storage::ReadView& view, const storage::CollectionInfo& collection,
    const query::Predicate& where, const CancelToken* cancel) {
  const query::CollectionSchema schema = SchemaOf(collection);
  INTARSIA_ASSIGN_OR_FAIL(const query::Filter filter, query::Filter::Bind(where, schema));
  const RowNeeds needs = NeedsOf(schema, filter.columns_used());
  std::vector<storage::ChunkId> ids;
  const auto visit = [&](const storage::Document& document) -> Status {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(DocumentRows rows,
                              DocumentRows::Open(view, schema, collection, document, needs));
    return view.ForEachChunkOf(document, [&](const storage::Chunk& chunk) -> Status {
      INTARSIA_ASSIGN_OR_RETURN(const query::Row row, rows.RowOf(chunk));
      if (filter.Matches(row)) ids.push_back(chunk.id);
      return Status::Ok();
    });
  };
  INTARSIA_RETURN_IF_ERROR(view.ForEachDocument(collection.id, visit));
  return ids;
}

}  // namespace intarsia::engine
