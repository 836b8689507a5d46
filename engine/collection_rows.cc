#include "engine/collection_rows.h"

#include <utility>

#include "base/check.h"
#include "base/utf8.h"

namespace intarsia::engine {
namespace {

// Storage knows no timestamps: they are integers there, and the declared type says so here.
constexpr const char* kColumnTypePrefix = "column_type:";

// The order is that of query::ImplicitColumns().
enum class Implicit : int64_t {
  kDocumentId,
  kChunkId,
  kOrdinal,
  kContent,
  kSource,
  kTitle,
  kHeading,
  kPage,
  kByteBegin,
  kByteEnd,
  kCharBegin,
  kCharEnd,
  kHash,
  kIngestedAt,
  kCount,
};

std::string JoinHeadings(const std::vector<std::string>& path) {
  std::string joined;
  for (const std::string& heading : path) joined += (joined.empty() ? "" : " > ") + heading;
  return joined;
}

}  // namespace

void SetColumnType(query::ColumnType type, storage::Column* column,
                   storage::CollectionInfo* collection) {
  const auto value_type_of = [](query::BaseType base) {
    switch (base) {
      case query::BaseType::kBoolean:
        return storage::ValueType::kBool;
      case query::BaseType::kInt:
      case query::BaseType::kTimestamp:
        return storage::ValueType::kInt;
      case query::BaseType::kDouble:
        return storage::ValueType::kDouble;
      case query::BaseType::kVarchar:
        return storage::ValueType::kString;
    }
    return storage::ValueType::kString;
  };
  column->item_type = value_type_of(type.base);
  column->type = type.is_array ? storage::ValueType::kList : column->item_type;
  collection->options[kColumnTypePrefix + column->name] = query::ColumnTypeName(type);
}

query::ColumnType ColumnTypeOf(const storage::CollectionInfo& collection,
                               const storage::Column& column) {
  const bool is_array = column.type == storage::ValueType::kList;
  if (storage::OptionOr(collection.options, kColumnTypePrefix + column.name, "")
          .starts_with("TIMESTAMP")) {
    return {.base = query::BaseType::kTimestamp, .is_array = is_array};
  }
  switch (is_array ? column.item_type : column.type) {
    case storage::ValueType::kBool:
      return {.base = query::BaseType::kBoolean, .is_array = is_array};
    case storage::ValueType::kInt:
      return {.base = query::BaseType::kInt, .is_array = is_array};
    case storage::ValueType::kDouble:
      return {.base = query::BaseType::kDouble, .is_array = is_array};
    default:
      return {.base = query::BaseType::kVarchar, .is_array = is_array};
  }
}

storage::Value ToStored(const query::Value& value) {
  switch (value.kind()) {
    case query::ValueKind::kBoolean:
      return storage::Value(value.AsBoolean());
    case query::ValueKind::kInteger:
      return storage::Value(value.AsInteger());
    case query::ValueKind::kDouble:
      return storage::Value(value.AsDouble());
    case query::ValueKind::kTimestamp:
      return storage::Value(value.AsTimestamp().micros);
    case query::ValueKind::kString:
      return storage::Value(value.AsString());
    case query::ValueKind::kList: {
      storage::Value::List items;
      for (const query::Value& item : value.AsList()) items.push_back(ToStored(item));
      return storage::Value(std::move(items));
    }
    default:
      return {};
  }
}

query::Value FromStored(const storage::Value& value, query::ColumnType type) {
  if (const bool* boolean = value.as_bool()) return query::Value(*boolean);
  if (const int64_t* integer = value.as_int()) {
    if (type.base == query::BaseType::kTimestamp) {
      return query::Value(query::Timestamp{.micros = *integer});
    }
    return query::Value(*integer);
  }
  if (const double* number = value.as_double()) return query::Value(*number);
  if (const std::string* text = value.as_string()) return query::Value(*text);
  if (const storage::Value::List* list = value.as_list()) {
    query::Value::List items;
    for (const storage::Value& item : *list) items.push_back(FromStored(item, type));
    return query::Value(std::move(items));
  }
  return {};
}

query::CollectionSchema SchemaOf(const storage::CollectionInfo& collection) {
  std::vector<query::ColumnSpec> declared;
  for (const storage::Column& column : collection.columns) {
    declared.push_back({.name = column.name, .type = ColumnTypeOf(collection, column)});
  }
  return query::CollectionSchema(collection.name, declared);
}

CellSource SourceOf(const query::CollectionSchema& schema, int64_t column) {
  if (column >= schema.num_implicit()) return CellSource::kDocument;
  switch (static_cast<Implicit>(column)) {
    case Implicit::kContent:
    case Implicit::kCharBegin:
    case Implicit::kCharEnd:
      return CellSource::kText;
    case Implicit::kChunkId:
    case Implicit::kOrdinal:
    case Implicit::kHeading:
    case Implicit::kByteBegin:
    case Implicit::kByteEnd:
      return CellSource::kChunk;
    default:
      return CellSource::kDocument;
  }
}

query::Value DocumentCell(const query::CollectionSchema& schema, const storage::Document& document,
                          int64_t column) {
  if (column >= schema.num_implicit()) {
    const query::ColumnSpec& spec = schema.columns()[static_cast<size_t>(column)];
    const auto found = document.metadata.find(spec.name);
    if (found == document.metadata.end()) return {};
    return FromStored(found->second, spec.type);
  }
  switch (static_cast<Implicit>(column)) {
    case Implicit::kDocumentId:
      return query::Value(std::to_string(document.id));
    case Implicit::kSource:
      return query::Value(document.source);
    case Implicit::kTitle:
      return query::Value(document.title);
    case Implicit::kHash:
      return query::Value(document.text_digest.ToHex());
    case Implicit::kIngestedAt:
      return query::Value(query::Timestamp{.micros = document.ingested_at_ms * 1'000});
    default:
      return {};
  }
}

query::Value ChunkCell(const storage::Chunk& chunk, int64_t column) {
  switch (static_cast<Implicit>(column)) {
    case Implicit::kChunkId:
      return query::Value(std::to_string(chunk.id));
    case Implicit::kOrdinal:
      return query::Value(chunk.ordinal);
    case Implicit::kHeading:
      return query::Value(JoinHeadings(chunk.heading_path));
    case Implicit::kByteBegin:
      return query::Value(chunk.byte_begin);
    case Implicit::kByteEnd:
      return query::Value(chunk.byte_end);
    default:
      return {};
  }
}

RowNeeds NeedsOf(const query::CollectionSchema& schema, const std::vector<int64_t>& columns) {
  RowNeeds needs;
  for (const int64_t column : columns) {
    needs.content = needs.content || SourceOf(schema, column) == CellSource::kText;
  }
  return needs;
}

query::ChunkerOptions ChunkerOf(const storage::CollectionInfo& collection) {
  query::ChunkerOptions options;
  if (storage::OptionOr(collection.options, "chunker", "structure") == "fixed") {
    options.kind = query::ChunkerKind::kFixed;
  }
  options.chunk_tokens =
      storage::NumberOptionOr(collection.options, "chunk_tokens", options.chunk_tokens);
  options.overlap_tokens =
      storage::NumberOptionOr(collection.options, "overlap", options.overlap_tokens);
  options.min_tokens =
      storage::NumberOptionOr(collection.options, "min_tokens", options.min_tokens);
  return options;
}

Result<DocumentRows> DocumentRows::Open(const storage::ReadView& view,
                                        const query::CollectionSchema& schema,
                                        const storage::Document& document, RowNeeds needs) {
  DocumentRows rows(schema, document, needs);
  if (needs.content) {
    INTARSIA_ASSIGN_OR_RETURN(rows.text_, view.GetText(document.text_digest));
  }
  return rows;
}

int64_t DocumentRows::CharactersBefore(int64_t offset) {
  if (offset < counted_bytes_) {  // Chunks overlap.
    return counted_characters_ -
           CountCodePoints(std::string_view(text_).substr(
               static_cast<size_t>(offset), static_cast<size_t>(counted_bytes_ - offset)));
  }
  counted_characters_ += CountCodePoints(std::string_view(text_).substr(
      static_cast<size_t>(counted_bytes_), static_cast<size_t>(offset - counted_bytes_)));
  counted_bytes_ = offset;
  return counted_characters_;
}

Result<query::Row> DocumentRows::RowOf(const storage::Chunk& chunk) {
  query::Value content;
  query::Value char_begin;
  query::Value char_end;
  if (needs_.content) {
    if (chunk.byte_begin < 0 || chunk.byte_end < chunk.byte_begin ||
        chunk.byte_end > std::ssize(text_)) {
      return Status(StatusCode::kCorruption,
                    "chunk lies outside its document: chunk=" + std::to_string(chunk.id) +
                        " document=" + std::to_string(document_.id));
    }
    content = query::Value(
        std::string_view(text_).substr(static_cast<size_t>(chunk.byte_begin),
                                       static_cast<size_t>(chunk.byte_end - chunk.byte_begin)));
    char_begin = query::Value(CharactersBefore(chunk.byte_begin));
    char_end = query::Value(CharactersBefore(chunk.byte_end));
  }
  query::Row row;
  for (int64_t column = 0; column < std::ssize(schema_.columns()); ++column) {
    switch (SourceOf(schema_, column)) {
      case CellSource::kDocument:
        row.push_back(DocumentCell(schema_, document_, column));
        break;
      case CellSource::kChunk:
        row.push_back(ChunkCell(chunk, column));
        break;
      case CellSource::kText:
        row.push_back(std::move(static_cast<Implicit>(column) == Implicit::kContent ? content
                                : static_cast<Implicit>(column) == Implicit::kCharBegin
                                    ? char_begin
                                    : char_end));
        break;
    }
  }
  return row;
}

}  // namespace intarsia::engine
