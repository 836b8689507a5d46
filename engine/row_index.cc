#include "engine/row_index.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "engine/collection_rows.h"

namespace intarsia::engine {
namespace {

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

uint64_t ContentOf(const storage::Document& document) {
  uint64_t content = 0;
  std::memcpy(&content, document.text_digest.bytes.data(), sizeof(content));
  return content;
}

Status RowIndex::Refresh(const storage::ReadView& view, const storage::CollectionInfo& collection,
                         std::span<const storage::ChunkId> known) {
  INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionStats stats, view.GetStats(collection.id));
  if (IsCurrent(stats)) return Status::Ok();
  const auto take_up = [&]() -> Status {
    if (!is_built_) return Build(view, collection, known);
    Changes changes;
    INTARSIA_RETURN_IF_ERROR(FindChanges(view, collection.id, &changes));
    // Something else has changed, such as the vectors, so nothing that follows the rows may be
    // kept.
    if (changes.added.empty() && changes.removed.empty()) ++epoch_;
    int64_t num_gone = num_rows() - num_live();
    for (const size_t at : changes.removed) num_gone += spans_[at].end - spans_[at].begin;
    const bool is_in_order = changes.added.empty() || chunks_.empty() ||
                             changes.added.front().first_chunk > chunks_.back();
    if (num_gone * kRowsPerGone > num_rows() || !is_in_order) return Build(view, collection, {});
    Remove(changes.removed);
    Append(changes.added);
    return Status::Ok();
  };
  if (Status status = take_up(); !status.ok()) {
    Clear();
    return status;
  }
  live_.Compress();
  num_live_ = live_.size();
  live_words_ = live_.ToWords(num_rows());
  is_built_ = true;
  generation_ = stats.generation;
  return Status::Ok();
}

void RowIndex::Clear() {
  is_built_ = false;
  ++epoch_;
  filters_ = query::FilterIndex({});
  indexed_.clear();
  chunks_.clear();
  spans_.clear();
  span_of_.clear();
  empty_.clear();
  live_ = index::RowSet();
  num_live_ = 0;
  live_words_.clear();
}

Status RowIndex::Build(const storage::ReadView& view, const storage::CollectionInfo& collection,
                       std::span<const storage::ChunkId> known) {
  std::vector<storage::Document> documents;
  int64_t num_chunks = 0;
  INTARSIA_RETURN_IF_ERROR(
      view.ForEachDocument(collection.id, [&](const storage::Document& document) {
        documents.push_back(document);
        num_chunks += document.num_chunks;
        return Status::Ok();
      }));
  std::sort(documents.begin(), documents.end(), IsEarlier);
  const auto begin = [&] {
    Clear();
    const std::vector<bool> is_indexed = IndexedColumns(SchemaOf(collection));
    for (int64_t column = 0; column < std::ssize(is_indexed); ++column) {
      if (is_indexed[static_cast<size_t>(column)]) indexed_.push_back(column);
    }
    filters_ = query::FilterIndex(is_indexed);
  };
  begin();
  size_t next = 0;
  size_t done = 0;
  while (done < documents.size() && next < known.size() &&
         AppendKnown(documents[done], known, &next)) {
    ++done;
  }
  if (done < documents.size() && next < known.size()) {
    begin();
    done = 0;
  } else {
    AppendGone(known.subspan(next));
    Append(std::span(documents).subspan(done));
    if ((num_rows() - num_chunks) * kRowsPerGone <= num_rows()) return Status::Ok();
    begin();
  }
  Append(documents);
  return Status::Ok();
}

void RowIndex::AppendGone(std::span<const storage::ChunkId> chunks) {
  if (chunks.empty()) return;
  const int64_t begin = num_rows();
  chunks_.insert(chunks_.end(), chunks.begin(), chunks.end());
  spans_.push_back({.begin = begin, .end = num_rows()});
}

bool RowIndex::AppendKnown(const storage::Document& document,
                           std::span<const storage::ChunkId> known, size_t* next) {
  if (document.num_chunks == 0) {
    Append({&document, 1});
    return true;
  }
  const auto from = known.begin() + static_cast<std::ptrdiff_t>(*next);
  const auto found = std::lower_bound(from, known.end(), document.first_chunk);
  AppendGone({from, found});
  *next = static_cast<size_t>(found - known.begin());
  // Either all of its chunks are known or, behind the last one that is, none or the first of them.
  const size_t end = std::min(known.size(), *next + static_cast<size_t>(document.num_chunks));
  storage::ChunkId chunk = document.first_chunk;
  for (; *next < end; ++*next, ++chunk) {
    if (known[*next] != chunk) return false;
  }
  Append({&document, 1});
  return true;
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
    const Span& span = spans_[at];
    live_.RemoveRange(span.begin, span.end);
    span_of_.erase(span.document);
  }
}

void RowIndex::Append(std::span<const storage::Document> documents) {
  for (const storage::Document& document : documents) {
    empty_.erase(document.id);
    if (document.num_chunks == 0) {
      empty_[document.id] = document.version;
      continue;
    }
    const int64_t begin = num_rows();
    for (int64_t i = 0; i < document.num_chunks; ++i) {
      chunks_.push_back(document.first_chunk + static_cast<uint64_t>(i));
    }
    live_.AddRange(begin, num_rows());
    span_of_[document.id] = spans_.size();
    spans_.push_back({.document = document.id,
                      .version = document.version,
                      .content = ContentOf(document),
                      .begin = begin,
                      .end = num_rows()});
  }
}

bool RowIndex::has_columns(const std::vector<int64_t>& columns) const {
  return std::ranges::all_of(columns, [this](int64_t column) {
    return !filters_.is_indexed(column) || filters_.num_rows(column) == num_rows();
  });
}

int64_t RowIndex::num_columns() const {
  int64_t count = 0;
  for (const int64_t column : indexed_) count += filters_.num_rows(column) == num_rows() ? 1 : 0;
  return count;
}

Status RowIndex::RefreshColumns(const storage::ReadView& view,
                                const storage::CollectionInfo& collection,
                                const std::vector<int64_t>& columns) {
  if (has_columns(columns)) return Status::Ok();
  const query::CollectionSchema schema = SchemaOf(collection);
  const auto take_up = [&]() -> Status {
    // Columns with as many cells come together.
    std::map<int64_t, std::vector<int64_t>> of_documents;
    std::map<int64_t, std::vector<int64_t>> of_chunks;
    for (const int64_t column : columns) {
      const int64_t begin = filters_.is_indexed(column) ? filters_.num_rows(column) : num_rows();
      if (begin == num_rows()) continue;
      const bool is_of_chunk = SourceOf(schema, column) == CellSource::kChunk;
      (is_of_chunk ? of_chunks : of_documents)[begin].push_back(column);
    }
    for (const auto& [begin, group] : of_documents) {
      INTARSIA_RETURN_IF_ERROR(ReadDocumentCells(view, schema, group, begin));
    }
    for (const auto& [begin, group] : of_chunks) {
      INTARSIA_RETURN_IF_ERROR(ReadChunkCells(view, group, begin));
    }
    filters_.Seal();
    return Status::Ok();
  };
  Status status = take_up();
  if (!status.ok()) Clear();
  return status;
}

Status RowIndex::ReadDocumentCells(const storage::ReadView& view,
                                   const query::CollectionSchema& schema,
                                   const std::vector<int64_t>& columns, int64_t begin) {
  for (size_t at = SpanOf(begin, 0); at < spans_.size(); ++at) {
    const Span& span = spans_[at];
    if (!live_.Contains(span.begin)) {
      for (const int64_t column : columns) filters_.Append(column, {}, span.end);
      continue;
    }
    INTARSIA_ASSIGN_OR_RETURN(const storage::Document document, view.GetDocument(span.document));
    for (const int64_t column : columns) {
      filters_.Append(column, DocumentCell(schema, document, column), span.end);
    }
  }
  return Status::Ok();
}

Status RowIndex::ReadChunkCells(const storage::ReadView& view, const std::vector<int64_t>& columns,
                                int64_t begin) {
  int64_t row = begin;
  // Gives rows before `chunk`, whose chunks are gone, cells that nobody sees.
  const auto pass_over = [&](storage::ChunkId chunk) -> Status {
    const int64_t first = row;
    for (; row < num_rows() && chunks_[static_cast<size_t>(row)] < chunk; ++row) {
      if (!live_.Contains(row)) continue;
      return Status(StatusCode::kCorruption,
                    "a chunk is missing: id=" + std::to_string(chunks_[static_cast<size_t>(row)]));
    }
    for (const int64_t column : columns) {
      if (row > first) filters_.Append(column, {}, row);
    }
    return Status::Ok();
  };
  const auto visit = [&](const storage::Chunk& chunk) -> Status {
    INTARSIA_RETURN_IF_ERROR(pass_over(chunk.id));
    // Other collections have chunks in between.
    if (row >= num_rows() || chunks_[static_cast<size_t>(row)] != chunk.id) return Status::Ok();
    ++row;
    for (const int64_t column : columns) filters_.Append(column, ChunkCell(chunk, column), row);
    return Status::Ok();
  };
  const storage::ChunkId end = chunks_.back() + 1;
  INTARSIA_RETURN_IF_ERROR(
      view.ForEachChunkBetween(chunks_[static_cast<size_t>(begin)], end, visit));
  return pass_over(end);
}

std::vector<uint64_t> RowIndex::ContentsOf(int64_t begin, int64_t end) const {
  std::vector<uint64_t> contents;
  for (size_t at = SpanOf(begin, 0); std::ssize(contents) < end - begin; ++at) {
    const int64_t last = std::min(end, spans_[at].end);
    contents.resize(static_cast<size_t>(last - begin), spans_[at].content);
  }
  return contents;
}

int64_t RowIndex::memory_bytes() const {
  return filters_.memory_bytes() +
         static_cast<int64_t>(chunks_.size() * sizeof(storage::ChunkId) +
                              spans_.size() * (sizeof(Span) + 4 * sizeof(uint64_t)) +
                              live_words_.size() * sizeof(uint64_t)) +
         live_.memory_bytes();
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

Result<RowMatches> RowIndex::Match(const storage::ReadView& view,
                                   const storage::CollectionInfo& collection,
                                   const query::Filter& filter, const CancelToken* cancel) const {
  INTARSIA_CHECK(has_columns(filter.columns_used()));
  RowMatches matches;
  query::FilterIndex::Selection selection = filters_.Select(filter, live_);
  matches.rows = std::move(selection.passing);
  if (selection.undecided.is_empty()) return matches;
  matches.num_read = selection.undecided.size();
  const query::CollectionSchema schema = SchemaOf(collection);
  const RowNeeds needs = NeedsOf(schema, filter.columns_used());
  for (const storage::DocumentId id : DocumentsOf(selection.undecided)) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(const storage::Document document, view.GetDocument(id));
    INTARSIA_ASSIGN_OR_RETURN(DocumentRows rows, DocumentRows::Open(view, schema, document, needs));
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
