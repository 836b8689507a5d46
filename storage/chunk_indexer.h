// ChunkIndexer: keeps rows of the family `postings` in step with the chunks of documents.
//
// Storage stages these rows in the same commit as the documents and knows only their bytes; what
// they mean is up to whoever implements this. They are derived: a commit never fails because of
// them. It leaves them marked as stale instead, and they are built anew by
// Database::RebuildPostings.
//
// Thread safety: a ChunkIndexer is thread-safe; a ChunkIndexChange is owned by one thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/row_store.h"
#include "storage/catalog.h"
#include "storage/ids.h"

namespace intarsia::storage {

// A chunk with all the text that belongs to it. Valid during the call that it is given to.
struct IndexedChunk {
  ChunkId id = 0;
  std::string_view title;                     // of its document
  std::span<const std::string> heading_path;  // from the outermost heading inwards
  std::string_view text;
};

// What one commit changes in one collection.
class ChunkIndexChange {
 public:
  virtual ~ChunkIndexChange() = default;

  // New chunks come by ascending ids, which are above those of all chunks before.
  virtual void Add(const IndexedChunk& chunk) = 0;
  // As it was given to Add in an earlier commit.
  virtual void Remove(const IndexedChunk& chunk) = 0;
  // Stages the rows that change in `out`, given all of the collection's as they are. Called once,
  // last. After an error nothing of it is written, and the rows are stale.
  virtual Status Finish(const RowReader& rows, RowWriter* out) = 0;
};

class ChunkIndexer {
 public:
  virtual ~ChunkIndexer() = default;

  // Null if the collection has no such index.
  // Errors: what keeps the index from being made, which then counts as stale.
  virtual Result<std::unique_ptr<ChunkIndexChange>> Begin(
      const CollectionInfo& collection) const = 0;
};

}  // namespace intarsia::storage
