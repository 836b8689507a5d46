// CollectionRows: stored documents and chunks as the rows that statements see.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "query/chunker.h"
#include "query/schema.h"
#include "query/value.h"
#include "storage/database.h"

namespace intarsia::engine {

// Declares `column`, whose name is set, to be of `type`.
void SetColumnType(query::ColumnType type, storage::Column* column,
                   storage::CollectionInfo* collection);
query::ColumnType ColumnTypeOf(const storage::CollectionInfo& collection,
                               const storage::Column& column);

// A cell of a declared column as it is stored, and back.
storage::Value ToStored(const query::Value& value);
query::Value FromStored(const storage::Value& value, query::ColumnType type);

// The schema of a stored collection for the binder.
query::CollectionSchema SchemaOf(const storage::CollectionInfo& collection);

// How the collection's documents are cut into chunks.
query::ChunkerOptions ChunkerOf(const storage::CollectionInfo& collection);

// What a cell is read from.
enum class CellSource : uint8_t { kDocument, kChunk, kText };
CellSource SourceOf(const query::CollectionSchema& schema, int64_t column);
// A cell of all rows of a document. REQUIRES: SourceOf(schema, column) is kDocument.
query::Value DocumentCell(const query::CollectionSchema& schema, const storage::Document& document,
                          int64_t column);
// REQUIRES: SourceOf() of the column is kChunk.
query::Value ChunkCell(const storage::Chunk& chunk, int64_t column);

// Which of a row's cells need the document's text.
struct RowNeeds {
  bool content = false;  // and char_start, char_end
};

// The chunks of one document as rows of SchemaOf(collection), in the order of their ordinals.
// Lifetime: all that it is made from must outlive it.
class DocumentRows {
 public:
  // Reads the text if it is needed. Errors: those of ReadView::GetText.
  static Result<DocumentRows> Open(const storage::ReadView& view,
                                   const query::CollectionSchema& schema,
                                   const storage::Document& document, RowNeeds needs);

  // Cells that are not needed are null. Linear in the document for all its chunks together.
  // Errors: kCorruption if the chunk lies outside the text.
  Result<query::Row> RowOf(const storage::Chunk& chunk);

 private:
  DocumentRows(const query::CollectionSchema& schema, const storage::Document& document,
               RowNeeds needs)
      : schema_(schema), document_(document), needs_(needs) {}

  // The code points before byte `offset`.
  int64_t CharactersBefore(int64_t offset);

  const query::CollectionSchema& schema_;
  const storage::Document& document_;
  RowNeeds needs_;
  std::string text_;
  // Up to where code points were counted.
  int64_t counted_bytes_ = 0;
  int64_t counted_characters_ = 0;
};

// Whether a bound filter or projection over these columns needs the text.
RowNeeds NeedsOf(const query::CollectionSchema& schema, const std::vector<int64_t>& columns);

}  // namespace intarsia::engine
