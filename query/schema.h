// CollectionSchema: the columns that a statement over a collection may name.
//
// Every collection has the implicit columns; those declared in CREATE COLLECTION follow them. A row
// of the filter and of SELECT is a span of Values in this order.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/value.h"

namespace intarsia::query {

struct ColumnSpec {
  std::string name;
  ColumnType type;
};

struct ImplicitColumn {
  std::string_view name;
  ColumnType type;
  std::string_view help;  // One line.
};

// doc_id, chunk_id, chunk_no, content, source, title, heading, page, byte_start, byte_end,
// char_start, char_end, content_hash, ingested_at.
std::span<const ImplicitColumn> ImplicitColumns();

class CollectionSchema {
 public:
  // `declared` are the columns of CREATE COLLECTION, as accepted by BindColumns.
  CollectionSchema(std::string collection, const std::vector<ColumnSpec>& declared);

  const std::string& collection() const { return collection_; }
  // Implicit ones first, then the declared.
  const std::vector<ColumnSpec>& columns() const { return columns_; }
  int64_t num_implicit() const { return num_implicit_; }

  // The index of a column in columns(); case does not matter.
  // Errors: kBinder with the nearest name as hint.
  Outcome<int64_t> Find(const Name& name) const;

 private:
  std::string collection_;
  std::vector<ColumnSpec> columns_;
  int64_t num_implicit_ = 0;
};

// The declared columns of a new collection.
// Errors: kBinder if two columns have one name or one has the name of an implicit column, `id` or
// `metadata`.
Outcome<std::vector<ColumnSpec>> BindColumns(const std::vector<ColumnDefinition>& columns);

// `literal` as a cell of a column: null stays null, an integer fits a DOUBLE, a string with a date
// a TIMESTAMP, a list an array. `column` is for the message. Errors: kBinder that names both types.
Outcome<Value> BindLiteral(const Literal& literal, ColumnType type, std::string_view column);

// `METADATA (...)` of COPY: [schema.columns().size() - schema.num_implicit()] cells of the declared
// columns, null where nothing is said.
// Errors: kBinder for an unknown, implicit or repeated column and for a value of another type.
Outcome<Row> BindMetadata(const std::vector<Option>& metadata, const CollectionSchema& schema);

struct InsertDocument {
  std::string id;
  std::string content;
  std::string title;   // Empty if not given.
  std::string source;  // The id if not given.
  Row metadata;        // As of BindMetadata.
};

// The documents of INSERT. The columns `id` (or doc_id) and `content` must be there; `title` and
// `source` may; the others are declared ones.
// Errors: kBinder; kInput for an empty id.
Outcome<std::vector<InsertDocument>> BindInsert(const Insert& insert,
                                                const CollectionSchema& schema);

}  // namespace intarsia::query
