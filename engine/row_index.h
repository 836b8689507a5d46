// RowIndex: the documents and chunks of one collection as rows with numbers, and an index over
// their columns, so that WHERE becomes a set of rows without reading the documents.
//
// Rows are in the order of chunk ids. New chunks get rows at the end; rows of chunks that are gone
// stay, and are in no answer, until they are a quarter of all and everything is built anew. Other
// indexes of the collection use the same numbers and follow epoch() and num_rows(). What these have
// kept in files from an earlier opening has numbers, too, which are taken up when they fit.
// Columns take longer to read than chunks to count, so each waits for the first WHERE that asks for
// it; those of documents are read without their chunks.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "index/row_set.h"
#include "query/filter.h"
#include "query/filter_index.h"
#include "query/schema.h"
#include "storage/database.h"

namespace intarsia::engine {

// The rows that pass a WHERE.
struct RowMatches {
  index::RowSet rows;
  int64_t num_read = 0;  // rows whose documents had to be read, because WHERE asks for the text
};

// Names what a chunk was made of: together with the chunk's id, the text that it stands for.
uint64_t ContentOf(const storage::Document& document);

class RowIndex {
 public:
  // Takes up what the collection holds in `view`, if it is not that already: documents that came,
  // went or were replaced, or all of it. If it begins, rows get the numbers that chunks have in
  // `known`, ascending, unless those do not fit or too many of them are gone.
  // Errors: those of ReadView; the index is empty then.
  Status Refresh(const storage::ReadView& view, const storage::CollectionInfo& collection,
                 std::span<const storage::ChunkId> known);
  // Takes up what `columns` of the schema lack, but for those that come from the text. `view` is
  // the one of the last Refresh() or one of its generation. Errors: as Refresh.
  Status RefreshColumns(const storage::ReadView& view, const storage::CollectionInfo& collection,
                        const std::vector<int64_t>& columns);
  // Whether that would do nothing.
  bool has_columns(const std::vector<int64_t>& columns) const;
  // How many columns have the cells of all rows.
  int64_t num_columns() const;

  bool is_built() const { return is_built_; }
  uint64_t generation() const { return generation_; }  // of the collection that it is about
  // Whether this is the state of a collection with these statistics.
  bool IsCurrent(const storage::CollectionStats& stats) const {
    return is_built_ && generation_ == stats.generation;
  }
  // Another number means that all rows have new numbers.
  uint64_t epoch() const { return epoch_; }
  int64_t num_rows() const { return std::ssize(chunks_); }  // those that are gone too
  int64_t num_live() const { return num_live_; }
  // One bit a row that is not gone [ceil(num_rows() / 64)].
  std::span<const uint64_t> live_words() const { return live_words_; }
  std::span<const storage::ChunkId> chunks() const { return chunks_; }  // [num_rows()], ascending
  int64_t memory_bytes() const;                                         // estimated

  // ContentOf the documents of rows [begin, end); 0 where it is not known.
  std::vector<uint64_t> ContentsOf(int64_t begin, int64_t end) const;

  // The row of a chunk, unless it was never there or left with an old epoch.
  std::optional<int64_t> RowOf(storage::ChunkId chunk) const;

  // The rows that pass `filter`, bound to the collection's schema. `view` is the one of the last
  // Refresh() or one of its generation. REQUIRES: has_columns() of those that the filter uses.
  // Errors: kCancelled; those of ReadView where documents have to be read.
  Result<RowMatches> Match(const storage::ReadView& view, const storage::CollectionInfo& collection,
                           const query::Filter& filter, const CancelToken* cancel) const;

  // The documents that at least one of `rows` belongs to, by row.
  std::vector<storage::DocumentId> DocumentsOf(const index::RowSet& rows) const;

 private:
  // The rows of a document.
  struct Span {
    storage::DocumentId document = 0;
    uint64_t version = 0;
    uint64_t content = 0;
    int64_t begin = 0;
    int64_t end = 0;
  };
  struct Changes {
    std::vector<storage::Document> added;  // replaced ones too, by their first chunk
    std::vector<size_t> removed;           // into spans_
  };

  Status Build(const storage::ReadView& view, const storage::CollectionInfo& collection,
               std::span<const storage::ChunkId> known);
  Status FindChanges(const storage::ReadView& view, storage::CollectionId collection,
                     Changes* changes) const;
  void Append(std::span<const storage::Document> documents);
  // Appends a document behind known chunks of others that are gone. Returns whether the known ones
  // fit it, and moves `next` behind those that are dealt with.
  bool AppendKnown(const storage::Document& document, std::span<const storage::ChunkId> known,
                   size_t* next);
  void AppendGone(std::span<const storage::ChunkId> chunks);
  void Remove(const std::vector<size_t>& removed);
  void Clear();
  // Cells of rows from `begin` on.
  Status ReadDocumentCells(const storage::ReadView& view, const query::CollectionSchema& schema,
                           const std::vector<int64_t>& columns, int64_t begin);
  Status ReadChunkCells(const storage::ReadView& view, const std::vector<int64_t>& columns,
                        int64_t begin);
  // The span that holds `row`, from the span `first` on.
  size_t SpanOf(int64_t row, size_t first) const;

  bool is_built_ = false;
  uint64_t generation_ = 0;
  uint64_t epoch_ = 0;
  query::FilterIndex filters_{{}};  // each column of the first rows, or of all
  std::vector<int64_t> indexed_;    // columns that it keeps
  std::vector<storage::ChunkId> chunks_;
  // By row; of removed documents too, but none without rows. Of rows that were gone when they were
  // taken up, the document is 0.
  std::vector<Span> spans_;
  std::unordered_map<storage::DocumentId, size_t> span_of_;  // of live documents
  // Documents without chunks, which have no rows, and their versions.
  std::unordered_map<storage::DocumentId, uint64_t> empty_;
  index::RowSet live_;
  int64_t num_live_ = 0;
  std::vector<uint64_t> live_words_;
};

}  // namespace intarsia::engine
