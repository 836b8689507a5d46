#include "engine/retriever.h"

#include <shared_mutex>
#include <utility>

#include "base/stopwatch.h"
#include "engine/row_index.h"

namespace intarsia::engine {
namespace {

// Commits may come as fast as their changes are taken up. After so many turns the search keeps
// writers of the index out until it is done.
constexpr int kTurnsMax = 2;

}  // namespace

struct Retriever::Entry {
  std::shared_mutex mutex;
  // Guarded by mutex.
  RowIndex rows;
  VectorIndex vectors;
};

struct Retriever::Access {
  std::shared_ptr<Entry> entry;
  std::shared_lock<std::shared_mutex> reading;  // one of the two is held
  std::unique_lock<std::shared_mutex> writing;
  storage::ReadView view;  // of the state that the indexes are in
  double build_ms = 0.0;

  const RowIndex& rows() const { return entry->rows; }
  const VectorIndex& vectors() const { return entry->vectors; }
};

Retriever::Retriever(storage::Database* database, ThreadPool* pool)
    : database_(database), pool_(pool) {}

Retriever::~Retriever() = default;

void Retriever::Forget(storage::CollectionId id) {
  const std::scoped_lock lock(mutex_);
  entries_.erase(id);
}

Result<Retriever::Access> Retriever::Acquire(const storage::CollectionInfo& collection,
                                             std::optional<storage::ModelId> model) {
  std::shared_ptr<Entry> entry;
  {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<Entry>& slot = entries_[collection.id];
    if (slot == nullptr) slot = std::make_shared<Entry>();
    entry = slot;
  }
  double build_ms = 0.0;
  for (int turn = 0;; ++turn) {
    std::shared_lock reading(entry->mutex);
    // Taken behind the lock, so it is no older than what the indexes have taken up.
    storage::ReadView view = database_->Read();
    INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
    const auto is_current = [&] {
      return entry->rows.IsCurrent(stats) &&
             (!model.has_value() || entry->vectors.IsCurrent(entry->rows, *model));
    };
    if (is_current()) {
      return Access{entry, std::move(reading), {}, std::move(view), build_ms};
    }
    reading.unlock();
    std::unique_lock writing(entry->mutex);
    const Stopwatch stopwatch;
    storage::ReadView newer = database_->Read();
    INTARSIA_RETURN_IF_ERROR(entry->rows.Refresh(newer, collection));
    if (model.has_value()) {
      INTARSIA_RETURN_IF_ERROR(
          entry->vectors.Refresh(newer, collection.id, *model, entry->rows, pool_));
    }
    build_ms += stopwatch.milliseconds();
    if (turn + 1 >= kTurnsMax) {
      return Access{entry, {}, std::move(writing), std::move(newer), build_ms};
    }
  }
}

query::Outcome<Retrieval> Retriever::Retrieve(const RetrieveParams& params,
                                              const CancelToken* cancel) {
  Retrieval retrieval;
  const auto& embedder = *params.embedder;
  INTARSIA_ASSIGN_OR_RETURN(Access access, Acquire(params.collection, embedder.info.id));
  const storage::ReadView& view = retrieval.view.emplace(std::move(access.view));
  retrieval.build_ms = access.build_ms;
  retrieval.access_path = "flat scan";
  retrieval.num_vectors = access.vectors().num_vectors(access.rows());
  if (retrieval.num_vectors == 0) {
    retrieval.notices.push_back("collection " + params.collection.name +
                                " holds no documents yet; load some with COPY");
    return retrieval;
  }
  retrieval.num_filtered = retrieval.num_vectors;
  std::optional<RowMatches> matches;
  if (params.where != nullptr) {
    const Stopwatch stopwatch;
    INTARSIA_ASSIGN_OR_FAIL(matches,
                            access.rows().Match(view, params.collection, *params.where, cancel));
    retrieval.is_filtered = true;
    retrieval.num_filtered = matches->rows.size();
    retrieval.num_read = matches->num_read;
    retrieval.filter_ms = stopwatch.milliseconds();
  }
  const Stopwatch embed;
  std::vector<float> vector(static_cast<size_t>(embedder.embedder->dimension()));
  const std::string_view texts[] = {params.text};
  INTARSIA_RETURN_IF_ERROR(
      embedder.embedder->Embed(texts, model::TextRole::kQuery, vector.data(), cancel));
  retrieval.embed_ms = embed.milliseconds();
  const Stopwatch search;
  INTARSIA_ASSIGN_OR_RETURN(
      VectorMatches found,
      access.vectors().Search({.vector = vector,
                               .k = params.limit,
                               .rows = matches.has_value() ? &matches->rows : nullptr,
                               .scan = params.scan},
                              access.rows(), pool_));
  retrieval.access_path = std::move(found.access_path);
  retrieval.num_rescored = found.num_rescored;
  for (const index::SearchHit& hit : found.hits) {
    RetrievedChunk& chunk = retrieval.chunks.emplace_back();
    chunk.score = hit.score;
    INTARSIA_ASSIGN_OR_RETURN(chunk.chunk, view.GetChunk(hit.id));
    INTARSIA_ASSIGN_OR_RETURN(chunk.document, view.GetDocument(chunk.chunk.document));
  }
  retrieval.search_ms = search.milliseconds();
  if (std::ssize(found.hits) < params.limit && params.where != nullptr) {
    retrieval.notices.push_back("only " + std::to_string(found.hits.size()) + " of " +
                                std::to_string(params.limit) +
                                " rows, because no more chunks pass WHERE");
  }
  return retrieval;
}

query::Outcome<ChunkMatches> Retriever::Match(const storage::CollectionInfo& collection,
                                              const query::Predicate& where,
                                              const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(Access access, Acquire(collection, std::nullopt));
  INTARSIA_ASSIGN_OR_FAIL(const RowMatches matches,
                          access.rows().Match(access.view, collection, where, cancel));
  ChunkMatches found = {.view = std::move(access.view), .chunks = {}, .documents = {}};
  for (const uint32_t row : matches.rows.ToRows()) {
    found.chunks.push_back(access.rows().chunks()[row]);
  }
  found.documents = access.rows().DocumentsOf(matches.rows);
  return found;
}

}  // namespace intarsia::engine
