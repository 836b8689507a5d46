#include "engine/row_index.h"

#include <algorithm>
#include <utility>

#include "engine/collection_rows.h"
#include "query/filter.h"

namespace intarsia::engine {
namespace {

// Rows handed to the filter index at a time.
constexpr size_t kBatchRows = 4'096;
// Everything is built anew when more than one row in this many is gone.
constexpr int64_t kRowsPerGone = 4;

bool IsEarlier(const storage::Document& a, const storage::Document& b) {
  return a.first_chunk < b.first_chunk;
}

// Which columns the index keeps: all whose cells do not come from the text.
std::vector<bool> IndexedColumns(const query::CollectionSchema& schema) {
  std::vector<bool> is_indexed;
  for (int64_t column = 0; column < std::ssize(schema.columns()); ++column) {
    is_indexed.push_back(!NeedsOf(schema, {column}).content);
  }
  return is_indexed;
}

}  // namespace

Status RowIndex::Refresh(const storage::ReadView& view, const storage::CollectionInfo& collection) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
  if (IsCurrent(stats)) return Status::Ok();
  const auto take_up = [&]() -> Status {
    if (!is_built_) return Build(view, collection);
    Changes changes;
    INTARSIA_RETURN_IF_ERROR(FindChanges(view, collection.id, &changes));
    // Something else has changed, such as the vectors, so nothing that follows the rows may be
    // kept.
    if (changes.added.empty() && changes.removed.empty()) ++epoch_;
    int64_t num_gone = num_rows() - num_live();
    for (const size_t at : changes.removed) num_gone += spans_[at].end - spans_[at].begin;
    const bool is_in_order = changes.added.empty() || chunks_.empty() ||
                             changes.added.front().first_chunk > chunks_.back();
    if (num_gone * kRowsPerGone > num_rows() || !is_in_order) return Build(view, collection);
    Remove(changes.removed);
    return Append(view, collection, changes.added);
  };
  if (Status status = take_up(); !status.ok()) {
    Clear();
    return status;
  }
  live_words_ = filters_.live().ToWords(num_rows());
  is_built_ = true;
  generation_ = stats.generation;
  return Status::Ok();
}

void RowIndex::Clear() {
  is_built_ = false;
  ++epoch_;
  filters_ = query::FilterIndex({});
  chunks_.clear();
  spans_.clear();
  span_of_.clear();
  empty_.clear();
  live_words_.clear();
}

Status RowIndex::Build(const storage::ReadView& view, const storage::CollectionInfo& collection) {
  Clear();
  filters_ = query::FilterIndex(IndexedColumns(SchemaOf(collection)));
  std::vector<storage::Document> documents;
  INTARSIA_RETURN_IF_ERROR(
      view.ForEachDocument(collection.id, [&documents](const storage::Document& document) {
        documents.push_back(document);
        return Status::Ok();
      }));
  std::sort(documents.begin(), documents.end(), IsEarlier);
  return Append(view, collection, documents);
}

Status RowIndex::FindChanges(const storage::ReadView& view, storage::CollectionId collection,
                             Changes* changes) const {
  std::vector<bool> is_there(spans_.size(), false);
  const auto visit = [&](const storage::Document& document) {
    const auto span = span_of_.find(document.id);
    if (span != span_of_.end() && spans_[span->second].version == document.version) {
      is_there[span->second] = true;
      return Status::Ok();
    }
    const auto empty = empty_.find(document.id);
    if (empty == empty_.end() || empty->second != document.version) {
      changes->added.push_back(document);
    }
    return Status::Ok();
  };
  INTARSIA_RETURN_IF_ERROR(view.ForEachDocument(collection, visit));
  std::sort(changes->added.begin(), changes->added.end(), IsEarlier);
  for (const auto& [document, at] : span_of_) {
    if (!is_there[at]) changes->removed.push_back(at);
  }
  return Status::Ok();
}

void RowIndex::Remove(const std::vector<size_t>& removed) {
  for (const size_t at : removed) {
    filters_.Remove(spans_[at].begin, spans_[at].end);
    span_of_.erase(spans_[at].document);
  }
}

Status RowIndex::Append(const storage::ReadView& view, const storage::CollectionInfo& collection,
                        const std::vector<storage::Document>& documents) {
  const query::CollectionSchema schema = SchemaOf(collection);
  std::vector<query::Row> batch;
  for (const storage::Document& document : documents) {
    empty_.erase(document.id);
    INTARSIA_ASSIGN_OR_RETURN(DocumentRows rows,
                              DocumentRows::Open(view, schema, collection, document, RowNeeds{}));
    const int64_t begin = num_rows();
    const auto visit = [&](const storage::Chunk& chunk) -> Status {
      INTARSIA_ASSIGN_OR_RETURN(query::Row row, rows.RowOf(chunk));
      batch.push_back(std::move(row));
      chunks_.push_back(chunk.id);
      return Status::Ok();
    };
    INTARSIA_RETURN_IF_ERROR(view.ForEachChunkOf(document, visit));
    if (begin == num_rows()) {
      empty_[document.id] = document.version;
      continue;
    }
    span_of_[document.id] = spans_.size();
    spans_.push_back({document.id, document.version, begin, num_rows()});
    if (batch.size() >= kBatchRows) {
      filters_.Append(batch);
      batch.clear();
    }
  }
  if (!batch.empty()) filters_.Append(batch);
  filters_.Seal();
  return Status::Ok();
}

int64_t RowIndex::memory_bytes() const {
  return filters_.memory_bytes() +
         static_cast<int64_t>(chunks_.size() * sizeof(storage::ChunkId) +
                              spans_.size() * (sizeof(Span) + 4 * sizeof(uint64_t)) +
                              live_words_.size() * sizeof(uint64_t));
}

std::optional<int64_t> RowIndex::RowOf(storage::ChunkId chunk) const {
  const auto found = std::lower_bound(chunks_.begin(), chunks_.end(), chunk);
  if (found == chunks_.end() || *found != chunk) return std::nullopt;
  return found - chunks_.begin();
}

size_t RowIndex::SpanOf(int64_t row, size_t first) const {
  const auto ends_before = [](const Span& span, int64_t at) { return span.end <= at; };
  const auto from = spans_.begin() + static_cast<std::ptrdiff_t>(first);
  return static_cast<size_t>(std::lower_bound(from, spans_.end(), row, ends_before) -
                             spans_.begin());
}

std::vector<storage::DocumentId> RowIndex::DocumentsOf(const index::RowSet& rows) const {
  std::vector<storage::DocumentId> documents;
  size_t at = 0;
  int64_t end = 0;  // of the rows of the last document
  for (const uint32_t row : rows.ToRows()) {
    if (row < end) continue;
    at = SpanOf(row, at);
    end = spans_[at].end;
    documents.push_back(spans_[at].document);
  }
  return documents;
}

query::Outcome<RowMatches> RowIndex::Match(const storage::ReadView& view,
                                           const storage::CollectionInfo& collection,
                                           const query::Predicate& where,
                                           const CancelToken* cancel) const {
  const query::CollectionSchema schema = SchemaOf(collection);
  INTARSIA_ASSIGN_OR_FAIL(const query::Filter filter, query::Filter::Bind(where, schema));
  RowMatches matches;
  query::FilterIndex::Selection selection = filters_.Select(filter);
  matches.rows = std::move(selection.passing);
  if (selection.undecided.is_empty()) return matches;
  matches.num_read = selection.undecided.size();
  const RowNeeds needs = NeedsOf(schema, filter.columns_used());
  for (const storage::DocumentId id : DocumentsOf(selection.undecided)) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(const storage::Document document, view.GetDocument(id));
    INTARSIA_ASSIGN_OR_RETURN(DocumentRows rows,
                              DocumentRows::Open(view, schema, collection, document, needs));
    int64_t row = spans_[span_of_.at(id)].begin;
    const auto visit = [&](const storage::Chunk& chunk) -> Status {
      const int64_t at = row++;
      if (!selection.undecided.Contains(at)) return Status::Ok();
      INTARSIA_ASSIGN_OR_RETURN(const query::Row cells, rows.RowOf(chunk));
      if (filter.Matches(cells)) matches.rows.AddRange(at, at + 1);
      return Status::Ok();
    };
    INTARSIA_RETURN_IF_ERROR(view.ForEachChunkOf(document, visit));
  }
  return matches;
}

}  // namespace intarsia::engine
