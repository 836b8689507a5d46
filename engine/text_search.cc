#include "engine/text_search.h"

#include <utility>

#include "base/log.h"
#include "engine/text_indexer.h"

namespace intarsia::engine {

Status TextSearcher::MakeCurrent(const storage::CollectionInfo& collection,
                                 const CancelToken* cancel, std::vector<std::string>* notices) {
  if (database_->access() == storage::AccessMode::kReadOnly) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const bool are_current,
                            database_->Read().ArePostingsCurrent(collection.id));
  if (are_current) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(database_->RebuildPostings(collection.id, cancel));
  notices->push_back("built the text index of collection " + collection.name +
                     ", which had none of its present documents");
  return Status::Ok();
}

Result<std::shared_ptr<const MemoryRows>> TextSearcher::BuildInMemory(
    const storage::ReadView& view, const storage::CollectionInfo& collection,
    const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
  // Others that need it too wait for the one that builds it.
  const std::scoped_lock lock(mutex_);
  MemoryIndex& index = in_memory_[collection.id];
  if (index.rows != nullptr && index.generation == stats.generation) return index.rows;
  INTARSIA_ASSIGN_OR_RETURN(const auto change, TextIndexer().Begin(collection));
  if (change == nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  "the collection has no text index: " + collection.name);
  }
  const auto add = [&](const storage::IndexedChunk& chunk) -> Status {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    change->Add(chunk);
    return Status::Ok();
  };
  INTARSIA_RETURN_IF_ERROR(view.ForEachIndexedChunk(collection.id, add));
  auto rows = std::make_shared<MemoryRows>();
  INTARSIA_RETURN_IF_ERROR(change->Finish(*rows, rows.get()));
  index = {.generation = stats.generation, .rows = std::move(rows)};
  return index.rows;
}

template <typename Use>
Status TextSearcher::UseRows(const storage::ReadView& view,
                             const storage::CollectionInfo& collection, const CancelToken* cancel,
                             std::vector<std::string>* notices, const Use& use) {
  INTARSIA_ASSIGN_OR_RETURN(const bool are_current, view.ArePostingsCurrent(collection.id));
  if (are_current) {
    const Status status = use(*view.Postings(collection.id));
    // They are marked as current, so one that is not there was lost.
    const bool is_damaged = status.code() == StatusCode::kCorruption ||
                            status.code() == StatusCode::kUnsupported ||
                            status.code() == StatusCode::kNotFound;
    if (!is_damaged) return status;
    Log(LogLevel::kWarning,
        "text index of " + collection.name + " is damaged: " + status.ToString());
    if (database_->access() == storage::AccessMode::kReadWrite) {
      INTARSIA_RETURN_IF_ERROR(database_->RebuildPostings(collection.id, cancel));
    }
    notices->push_back("the text index of collection " + collection.name +
                       " was damaged and is built anew");
  }
  INTARSIA_ASSIGN_OR_RETURN(const auto rows, BuildInMemory(view, collection, cancel));
  return use(*rows);
}

Result<TextMatches> TextSearcher::Search(const storage::ReadView& view,
                                         const storage::CollectionInfo& collection,
                                         const TextLegParams& params, const CancelToken* cancel) {
  TextMatches matches;
  INTARSIA_ASSIGN_OR_RETURN(const auto analyzer, AnalyzerOf(collection));
  const index::TextQuery query = index::ParseTextQuery(params.text, params.syntax, analyzer.get());
  if (query.num_dropped > 0) {
    matches.notices.push_back("only " + std::to_string(query.clauses.size()) +
                              " different words of the text were searched for");
  }
  matches.has_words = query.has_positive();
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
  if (!matches.has_words || stats.num_chunks == 0) return matches;
  const auto search = [&](const RowReader& rows) -> Status {
    INTARSIA_ASSIGN_OR_RETURN(
        matches.found,
        index::SearchText(
            rows, {.query = &query, .k = params.k, .filter = params.filter, .cancel = cancel}));
    return Status::Ok();
  };
  INTARSIA_RETURN_IF_ERROR(UseRows(view, collection, cancel, &matches.notices, search));
  return matches;
}

Result<std::optional<std::vector<storage::ChunkId>>> TextSearcher::Constrain(
    const storage::ReadView& view, const storage::CollectionInfo& collection,
    const TextLegParams& params, std::span<const storage::ChunkId> chunks,
    const CancelToken* cancel) {
  std::optional<std::vector<storage::ChunkId>> kept;
  INTARSIA_ASSIGN_OR_RETURN(const auto analyzer, AnalyzerOf(collection));
  const index::TextQuery query = index::ParseTextQuery(params.text, params.syntax, analyzer.get());
  if (!query.has_constraints()) return kept;
  std::vector<std::string> notices;  // The search itself says the same.
  const auto apply = [&](const RowReader& rows) -> Status {
    INTARSIA_ASSIGN_OR_RETURN(kept, index::ApplyConstraints(rows, query, chunks, cancel));
    return Status::Ok();
  };
  INTARSIA_RETURN_IF_ERROR(UseRows(view, collection, cancel, &notices, apply));
  return kept;
}

void TextSearcher::Forget(storage::CollectionId id) {
  const std::scoped_lock lock(mutex_);
  in_memory_.erase(id);
}

}  // namespace intarsia::engine
