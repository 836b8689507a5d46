// CollectionRows: stored documents and chunks as the rows that statements see.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
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

// One row of SchemaOf(collection) for a chunk. `content` is filled only if `needs_content`, as are
// the character offsets, because both need the document's text.
struct RowNeeds {
  bool content = false;  // and char_start, char_end
};
Result<query::Row> ChunkRow(const storage::ReadView& view, const query::CollectionSchema& schema,
                            const storage::CollectionInfo& collection,
                            const storage::Document& document, const storage::Chunk& chunk,
                            RowNeeds needs);

// Whether a bound filter or projection over these columns needs the text.
RowNeeds NeedsOf(const query::CollectionSchema& schema, const std::vector<int64_t>& columns);

}  // namespace intarsia::engine
