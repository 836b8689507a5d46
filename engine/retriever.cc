#include "engine/retriever.h"

#include <algorithm>
#include <shared_mutex>
#include <span>
#include <utility>

#include "base/log.h"
#include "base/stopwatch.h"
#include "engine/collection_index.h"
#include "engine/collection_rows.h"
#include "engine/embedded_passage.h"

namespace intarsia::engine {
namespace {

// Commits may come as fast as their changes are taken up. After so many turns the search keeps
// writers of the index out until it is done.
constexpr int kTurnsMax = 2;

}  // namespace

struct Retriever::Access {
  std::shared_ptr<CollectionIndex> index;
  std::shared_lock<std::shared_mutex> reading;  // one of the two is held
  std::unique_lock<std::shared_mutex> writing;
  storage::ReadView view;  // of the state that the indexes are in
  double build_ms = 0.0;

  const RowIndex& rows() const { return index->rows; }
  const VectorIndex& vectors() const { return index->vectors; }
};

Retriever::Retriever(storage::Database* database, ThreadPool* pool, FileSystem* file_system,
                     const VectorIndexOptions& options, DeviceProvider* devices)
    : database_(database),
      pool_(pool),
      text_(database),
      options_(options),
      files_(database, file_system),
      device_codes_(devices),
      graphs_({.file_system = file_system,
               .folder = database->access() == storage::AccessMode::kReadOnly
                             ? ""
                             : database->path() + "/index",
               .num_threads = std::max(1, pool->num_threads() / 2)}) {}

Retriever::~Retriever() = default;

void Retriever::Forget(storage::CollectionId id) {
  text_.Forget(id);
  if (const Status dropped = DropCopies({id}); !dropped.ok()) {
    Log(LogLevel::kWarning, "vector files not removed: " + dropped.ToString());
  }
  {
    const std::scoped_lock lock(mutex_);
    indexes_.erase(id);
  }
  graphs_.Forget(id);
  const Status removed = RemoveProfiles(database_, id);
  if (!removed.ok()) Log(LogLevel::kWarning, "vector profile not removed: " + removed.ToString());
}

Status Retriever::DropCopies(const std::set<storage::CollectionId>& collections) {
  for (const storage::CollectionId id : collections) {
    const std::shared_ptr<CollectionIndex> index = IndexOf(id);
    const std::unique_lock writing(index->mutex);
    INTARSIA_RETURN_IF_ERROR(index->vectors.Drop(id));
  }
  return Status::Ok();
}

std::vector<storage::CheckFinding> Retriever::CheckFiles(
    const storage::CollectionInfo& collection) {
  std::vector<storage::CheckFinding> findings;
  for (VectorFiles::Finding& finding : files_.Check(collection.id)) {
    findings.push_back({.object = "vector file of collection " + collection.name,
                        .problem = std::move(finding.problem),
                        .remedy = "open the database for writing, which drops it"});
  }
  if (findings.empty() || !files_.is_writable()) return findings;
  const Status dropped = DropCopies({collection.id});
  for (storage::CheckFinding& finding : findings) {
    finding.is_repaired = dropped.ok();
    finding.remedy = dropped.ok() ? "dropped; it is made anew by the next search"
                                  : std::string(dropped.message());
  }
  return findings;
}

std::shared_ptr<CollectionIndex> Retriever::IndexOf(storage::CollectionId id) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<CollectionIndex>& slot = indexes_[id];
  if (slot == nullptr) slot = std::make_shared<CollectionIndex>(options_, &files_);
  return slot;
}

Result<Retriever::Access> Retriever::Acquire(const storage::CollectionInfo& collection,
                                             const Needs& needs) {
  const std::shared_ptr<CollectionIndex> index = IndexOf(collection.id);
  const std::optional<storage::ModelId> model = needs.model;
  VectorIndex& vectors = index->vectors;
  const bool asks_for_graph = needs.scan == VectorScan::kGraph;
  double build_ms = 0.0;
  const auto lacks_graph = [&vectors] {
    return vectors.wants_graph() &&
           (vectors.graph() == nullptr || vectors.graph()->size() < vectors.num_in_flat());
  };
  for (int turn = 0;; ++turn) {
    std::shared_lock reading(index->mutex);
    // Taken behind the lock, so it is no older than what the indexes have taken up.
    storage::ReadView view = database_->Read();
    INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
    const bool is_current =
        index->rows.IsCurrent(stats) && index->rows.has_columns(needs.columns) &&
        (!model.has_value() ||
         (vectors.IsCurrent(index->rows, *model) && (!asks_for_graph || vectors.is_graph_begun())));
    if (is_current) {
      if (lacks_graph()) graphs_.Want(collection.id, index);
      return Access{index, std::move(reading), {}, std::move(view), build_ms};
    }
    reading.unlock();
    std::unique_lock writing(index->mutex);
    const Stopwatch stopwatch;
    storage::ReadView newer = database_->Read();
    const std::vector<storage::ChunkId> known = index->rows.is_built()
                                                    ? std::vector<storage::ChunkId>()
                                                    : vectors.FindKnownChunks(newer, collection.id);
    INTARSIA_RETURN_IF_ERROR(index->rows.Refresh(newer, collection, known));
    INTARSIA_RETURN_IF_ERROR(index->rows.RefreshColumns(newer, collection, needs.columns));
    if (model.has_value()) {
      INTARSIA_RETURN_IF_ERROR(
          vectors.Refresh(database_, newer, collection.id, *model, index->rows, pool_));
      if (asks_for_graph || graphs_.HasFile(collection.id)) vectors.WantGraph();
      INTARSIA_RETURN_IF_ERROR(vectors.MakeSmallGraph());
      if (lacks_graph()) graphs_.Want(collection.id, index);
    }
    build_ms += stopwatch.milliseconds();
    if (turn + 1 >= kTurnsMax) {
      return Access{index, {}, std::move(writing), std::move(newer), build_ms};
    }
  }
}

Status Retriever::Prepare(const storage::CollectionInfo& collection, storage::ModelId model) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats,
                            database_->Read().GetStats(collection.id));
  if (stats.num_chunks <= options_.flat_max) return Status::Ok();
  return Acquire(collection, {.model = model}).status();
}

Result<IndexReport> Retriever::Describe(const storage::CollectionInfo& collection,
                                        storage::ModelId model) {
  const std::shared_ptr<CollectionIndex> index = IndexOf(collection.id);
  const std::shared_lock reading(index->mutex);
  const VectorIndex& vectors = index->vectors;
  IndexReport report;
  report.num_chunks = index->rows.num_live();
  report.num_columns = index->rows.is_built() ? index->rows.num_columns() : 0;
  report.row_bytes = index->rows.memory_bytes();
  report.is_loaded = vectors.model() == model && vectors.IsCurrent(index->rows, model);
  if (!report.is_loaded) {
    report.profile = LoadProfile(database_->Read(), collection.id, model);
    if (report.profile.has_value()) report.rates = report.profile->rates;
    return report;
  }
  report.num_vectors = vectors.num_vectors(index->rows);
  report.vector_bytes = vectors.memory_bytes();
  report.num_in_files = vectors.num_in_files();
  report.file_bytes = vectors.file_bytes();
  report.has_codes = vectors.has_codes();
  report.profile = vectors.profile();
  report.rates = vectors.costs().rates();
  report.wants_graph = vectors.wants_graph();
  if (vectors.graph() != nullptr) {
    report.num_in_graph = vectors.graph()->size();
    report.graph_bytes = vectors.graph()->memory_bytes();
    report.graph_measure = vectors.graph_measure();
  }
  return report;
}

struct Retriever::Job {
  const RetrieveParams& params;
  const CancelToken* const cancel;
  const std::optional<query::Filter> where;
  Access access;
  Retrieval result;
  std::optional<index::RowSet> rows = {};  // that may be found; not set: all
  std::optional<std::vector<storage::ChunkId>> ids =
      {};  // the same as chunks, if words are looked for
  std::vector<index::SearchHit> vector_hits = {};
  std::vector<index::SearchHit> text_hits = {};

  bool uses_text() const { return params.mode != SearchMode::kVector; }
  bool uses_vectors() const { return params.mode != SearchMode::kText; }
  const storage::ReadView& view() const { return *result.view; }
  // Chunks that the legs are to find together, of which a reranker may leave some out.
  int64_t num_candidates() const {
    return params.reranker == nullptr ? params.limit : std::max(params.limit, params.rerank_top);
  }
  // Hits of a leg that fusion looks at: a chunk that is tenth in both may be the best.
  int64_t DepthOf(int64_t top) const {
    return params.mode == SearchMode::kHybrid ? std::max(num_candidates(), top) : num_candidates();
  }
};

query::Outcome<Retrieval> Retriever::Retrieve(const RetrieveParams& params,
                                              const CancelToken* cancel) {
  query::Outcome<Retrieval> found = RetrieveOnce(params, cancel);
  if (found.ok()) return found;
  {
    const std::shared_ptr<CollectionIndex> index = IndexOf(params.collection.id);
    const std::shared_lock reading(index->mutex);
    if (!index->vectors.is_damaged()) return found;
  }
  // A vector in a file has turned out to be damaged; now they are read from the database.
  return RetrieveOnce(params, cancel);
}

query::Outcome<Retrieval> Retriever::RetrieveOnce(const RetrieveParams& params,
                                                  const CancelToken* cancel) {
  if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
  std::optional<query::Filter> where;
  if (params.where != nullptr) {
    INTARSIA_ASSIGN_OR_FAIL(where, query::Filter::Bind(*params.where, SchemaOf(params.collection)));
  }
  std::vector<std::string> notices;
  const bool uses_text = params.mode != SearchMode::kVector;
  if (uses_text) {
    INTARSIA_RETURN_IF_ERROR(text_.MakeCurrent(params.collection, cancel, &notices));
  }
  const std::optional<storage::ModelId> model =
      params.mode == SearchMode::kText ? std::nullopt : std::optional(params.embedder->info.id);
  INTARSIA_ASSIGN_OR_RETURN(
      Access access,
      Acquire(params.collection,
              {.model = model,
               .scan = params.scan,
               .columns = where.has_value() ? where->columns_used() : std::vector<int64_t>()}));
  Job job = {.params = params,
             .cancel = cancel,
             .where = std::move(where),
             .access = std::move(access),
             .result = {}};
  Retrieval& result = job.result;
  result.view.emplace(std::move(job.access.view));
  result.notices = std::move(notices);
  result.mode = params.mode;
  result.build_ms = job.access.build_ms;
  result.access_path = "flat scan";
  result.num_vectors = job.uses_vectors() ? job.access.vectors().num_vectors(job.access.rows())
                                          : job.access.rows().num_live();
  result.num_filtered = result.num_vectors;
  if (result.num_vectors == 0) {
    result.notices.push_back("collection " + params.collection.name +
                             " holds no documents yet; load some with COPY");
    return std::move(job.result);
  }
  INTARSIA_FAIL_IF(Filter(&job));
  if (job.uses_vectors()) INTARSIA_FAIL_IF(SearchVectors(&job));
  if (job.uses_text()) INTARSIA_RETURN_IF_ERROR(SearchWords(&job));
  INTARSIA_RETURN_IF_ERROR(Collect(&job));
  INTARSIA_RETURN_IF_ERROR(Rerank(&job));
  return std::move(job.result);
}

query::Failure Retriever::Filter(Job* job) {
  const RetrieveParams& params = job->params;
  const RowIndex& rows = job->access.rows();
  Retrieval& result = job->result;
  const Stopwatch stopwatch;
  if (job->where.has_value()) {
    Result<RowMatches> matches =
        rows.Match(job->view(), params.collection, *job->where, job->cancel);
    if (!matches.ok()) return query::FromStatus(matches.status());
    result.is_filtered = true;
    result.num_filtered = matches->rows.size();
    result.num_read = matches->num_read;
    job->rows = std::move(matches->rows);
  }
  if (!job->uses_text()) {
    result.filter_ms = stopwatch.milliseconds();
    return {};
  }
  if (job->rows.has_value()) {
    std::vector<storage::ChunkId>& ids = job->ids.emplace();
    for (const uint32_t row : job->rows->ToRows()) ids.push_back(rows.chunks()[row]);
  }
  // What the text requires and forbids holds for both legs.
  const std::span<const storage::ChunkId> candidates =
      job->ids.has_value() ? std::span<const storage::ChunkId>(*job->ids) : rows.chunks();
  auto kept =
      text_.Constrain(job->view(), params.collection,
                      {.text = params.text, .syntax = params.syntax}, candidates, job->cancel);
  if (!kept.ok()) return query::FromStatus(kept.status());
  if (kept->has_value()) {
    std::vector<uint64_t> words(static_cast<size_t>((rows.num_rows() + 63) / 64));
    for (const storage::ChunkId id : **kept) {
      const std::optional<int64_t> row = rows.RowOf(id);
      if (row.has_value()) words[static_cast<size_t>(*row / 64)] |= uint64_t{1} << (*row % 64);
    }
    for (size_t i = 0; i < words.size(); ++i) words[i] &= rows.live_words()[i];
    job->rows = index::RowSet::FromWords(words);
    job->ids = *std::move(*kept);
    result.is_constrained = true;
    result.num_unconstrained = job->rows->size();
  }
  result.filter_ms = stopwatch.milliseconds();
  return {};
}

query::Failure Retriever::SearchVectors(Job* job) {
  const model::Embedder& embedder = *job->params.embedder->embedder;
  Retrieval& result = job->result;
  const Stopwatch embed;
  std::vector<float> vector(static_cast<size_t>(embedder.dimension()));
  const std::string_view texts[] = {job->params.vector_text.empty() ? job->params.text
                                                                    : job->params.vector_text};
  const Status embedded =
      embedder.Embed(texts, model::TextRole::kQuery, vector.data(), job->cancel);
  if (!embedded.ok()) return query::FromStatus(embedded);
  result.embed_ms = embed.milliseconds();
  const Stopwatch search;
  const SearchDevice device = {.codes = &device_codes_, .find = job->params.find_device};
  auto found = job->access.vectors().Search({.vector = vector,
                                             .k = job->DepthOf(job->params.vector_top),
                                             .rows = job->rows.has_value() ? &*job->rows : nullptr,
                                             .scan = job->params.scan,
                                             .device = device.find ? &device : nullptr},
                                            job->access.rows(), pool_);
  if (!found.ok()) return query::FromStatus(found.status());
  if (job->params.scan == VectorScan::kDevice && found->path != AccessPath::kDevice &&
      found->notice.empty()) {
    found->notice = "vectors were searched on the CPU: no device has the codes of collection " +
                    job->params.collection.name;
  }
  if (!found->notice.empty()) result.notices.push_back(std::move(found->notice));
  result.access_path = std::move(found->access_path);
  result.num_rescored = found->num_rescored;
  result.predicted_ms = found->predicted_ms;
  result.profile = job->access.vectors().profile();
  if (found->path == AccessPath::kGraph) {
    result.graph_measure = job->access.vectors().graph_measure();
  }
  if (job->params.scan == VectorScan::kGraph && job->access.vectors().graph() == nullptr) {
    result.notices.push_back("the graph of collection " + job->params.collection.name +
                             " is being built; a scan answered instead");
  }
  result.num_vector_hits = std::ssize(found->hits);
  if (!found->hits.empty()) result.best_vector_score = found->hits.front().score;
  job->vector_hits = std::move(found->hits);
  result.search_ms = search.milliseconds();
  return {};
}

Status Retriever::SearchWords(Job* job) {
  Retrieval& result = job->result;
  const Stopwatch stopwatch;
  TextLegParams leg = {.text = job->params.text,
                       .syntax = job->params.syntax,
                       .k = job->DepthOf(job->params.text_top)};
  if (job->ids.has_value()) leg.filter = *job->ids;
  INTARSIA_ASSIGN_OR_RETURN(TextMatches matches,
                            text_.Search(job->view(), job->params.collection, leg, job->cancel));
  result.notices.insert(result.notices.end(), matches.notices.begin(), matches.notices.end());
  job->text_hits = std::move(matches.found.hits);
  result.num_text_hits = std::ssize(job->text_hits);
  result.text = std::move(matches.found);
  result.text_ms = stopwatch.milliseconds();
  if (job->params.mode != SearchMode::kText) return Status::Ok();
  if (!matches.has_words) {
    result.notices.push_back("there are no words in the text to look for");
  } else if (result.num_text_hits < job->params.limit) {
    result.notices.push_back("only " + std::to_string(result.num_text_hits) + " of " +
                             std::to_string(job->params.limit) +
                             " rows, because no more chunks hold a word of the text" +
                             (job->params.where != nullptr ? " and pass WHERE" : ""));
  }
  return Status::Ok();
}

Status Retriever::Collect(Job* job) {
  const RetrieveParams& params = job->params;
  Retrieval& result = job->result;
  // One leg alone keeps its scores.
  std::vector<query::FusedHit> hits;
  if (params.mode == SearchMode::kHybrid) {
    const query::RankedLeg legs[] = {
        {.hits = job->text_hits, .weight = params.text_weight, .least_score = 0.0},
        {.hits = job->vector_hits, .weight = params.vector_weight, .least_score = -1.0}};
    hits = query::FuseRanks(legs, params.fusion, job->num_candidates());
  } else {
    const bool is_text = params.mode == SearchMode::kText;
    for (const index::SearchHit& hit : is_text ? job->text_hits : job->vector_hits) {
      query::FusedHit& added = hits.emplace_back();
      added.id = hit.id;
      added.score = hit.score;
      added.leg_scores.resize(2);
      added.leg_scores[is_text ? 0 : 1] = hit.score;
    }
  }
  for (const query::FusedHit& hit : hits) {
    RetrievedChunk& chunk = result.chunks.emplace_back();
    chunk.score = hit.score;
    chunk.text_score = hit.leg_scores[0];
    chunk.vector_score = hit.leg_scores[1];
    INTARSIA_ASSIGN_OR_RETURN(chunk.chunk, job->view().GetChunk(hit.id));
    INTARSIA_ASSIGN_OR_RETURN(chunk.document, job->view().GetDocument(chunk.chunk.document));
  }
  const bool is_narrowed = params.where != nullptr || result.is_constrained;
  if (params.mode != SearchMode::kText && is_narrowed && std::ssize(hits) < params.limit) {
    result.notices.push_back("only " + std::to_string(hits.size()) + " of " +
                             std::to_string(params.limit) + " rows, because no more chunks pass " +
                             (params.where == nullptr ? "the words behind + and -"
                              : result.is_constrained ? "WHERE and the words behind + and -"
                                                      : "WHERE"));
  }
  return Status::Ok();
}

Status Retriever::Rerank(Job* job) const {
  const RetrieveParams& params = job->params;
  if (params.reranker == nullptr) return Status::Ok();
  Retrieval& result = job->result;
  const Stopwatch stopwatch;
  result.num_reranked = std::min(params.rerank_top, std::ssize(result.chunks));
  const std::span<RetrievedChunk> best =
      std::span(result.chunks).first(static_cast<size_t>(result.num_reranked));
  std::vector<std::string> passages;
  for (const RetrievedChunk& hit : best) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string text,
                              job->view().GetTextRange(hit.document.text_digest,
                                                       hit.chunk.byte_begin, hit.chunk.byte_end));
    passages.push_back(EmbeddedPassage(hit.document.title, hit.chunk.heading_path, text));
  }
  const std::string_view question = params.rerank_text.empty() ? params.text : params.rerank_text;
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> scores,
                            params.reranker->Score(question, passages, job->cancel));
  for (size_t i = 0; i < best.size(); ++i) best[i].rerank_score = scores[i];
  // Ties keep the order that they had.
  std::ranges::stable_sort(best, std::ranges::greater(),
                           [](const RetrievedChunk& hit) { return *hit.rerank_score; });
  if (std::ssize(result.chunks) > params.limit) {
    result.chunks.resize(static_cast<size_t>(params.limit));
  }
  result.rerank_ms = stopwatch.milliseconds();
  return Status::Ok();
}

query::Outcome<ChunkMatches> Retriever::Match(const storage::CollectionInfo& collection,
                                              const query::Predicate& where,
                                              const CancelToken* cancel) {
  if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
  INTARSIA_ASSIGN_OR_FAIL(const query::Filter filter,
                          query::Filter::Bind(where, SchemaOf(collection)));
  INTARSIA_ASSIGN_OR_RETURN(Access access, Acquire(collection, {.columns = filter.columns_used()}));
  INTARSIA_ASSIGN_OR_RETURN(const RowMatches matches,
                            access.rows().Match(access.view, collection, filter, cancel));
  ChunkMatches found = {.view = std::move(access.view), .chunks = {}, .documents = {}};
  for (const uint32_t row : matches.rows.ToRows()) {
    found.chunks.push_back(access.rows().chunks()[row]);
  }
  found.documents = access.rows().DocumentsOf(matches.rows);
  return found;
}

}  // namespace intarsia::engine
