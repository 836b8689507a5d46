#include "query/schema.h"

#include <array>
#include <optional>
#include <utility>

#include "query/ast_printer.h"
#include "query/lexer.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

constexpr ColumnType kVarchar{BaseType::kVarchar, false};
constexpr ColumnType kInt{BaseType::kInt, false};

constexpr std::array<ImplicitColumn, 14> kImplicit = {{
    {"doc_id", kVarchar, "Id of the document."},
    {"chunk_id", kVarchar, "Id of the chunk."},
    {"chunk_no", kInt, "Number of the chunk in its document, from 0."},
    {"content", kVarchar, "Text of the chunk."},
    {"source", kVarchar, "Path or address that the document came from."},
    {"title", kVarchar, "Title of the document."},
    {"heading", kVarchar, "Headings above the chunk, joined by ' > '."},
    {"page", kInt, "Page that the chunk begins on, from 1; null without pages."},
    {"byte_start", kInt, "First byte of the chunk in the extracted text."},
    {"byte_end", kInt, "Byte behind its last one."},
    {"char_start", kInt, "First code point of the chunk in the extracted text."},
    {"char_end", kInt, "Code point behind its last one."},
    {"content_hash", kVarchar, "Digest of the extracted text."},
    {"ingested_at", {BaseType::kTimestamp, false}, "When this version was committed."},
}};

// Names that INSERT and documents use for something else.
constexpr std::array<std::string_view, 2> kReservedColumns = {"id", "metadata"};

std::string Quoted(std::string_view name) { return "\"" + std::string(name) + "\""; }

// With its article: "an integer".
std::string Described(ValueKind kind) {
  const std::string name(ValueKindName(kind));
  return (kind == ValueKind::kInteger || kind == ValueKind::kObject ? "an " : "a ") + name;
}

// `value` as a cell of the base type, or nothing if it does not fit.
std::optional<Value> ConvertScalar(const Value& value, BaseType type) {
  const ValueKind kind = value.kind();
  if (kind == ValueKind::kNull || kind == KindOf({type, /*is_array=*/false})) return value;
  if (type == BaseType::kDouble && kind == ValueKind::kInteger) {
    return Value(static_cast<double>(value.AsInteger()));
  }
  if (type == BaseType::kTimestamp && kind == ValueKind::kString) {
    const Result<Timestamp> timestamp = ParseTimestamp(value.AsString());
    if (timestamp.ok()) return Value(*timestamp);
  }
  return std::nullopt;
}

}  // namespace

std::span<const ImplicitColumn> ImplicitColumns() { return kImplicit; }

CollectionSchema::CollectionSchema(std::string collection, const std::vector<ColumnSpec>& declared)
    : collection_(std::move(collection)), num_implicit_(int64_t{kImplicit.size()}) {
  columns_.reserve(kImplicit.size() + declared.size());
  for (const ImplicitColumn& column : kImplicit) {
    columns_.push_back({std::string(column.name), column.type});
  }
  columns_.insert(columns_.end(), declared.begin(), declared.end());
}

Outcome<int64_t> CollectionSchema::Find(const Name& name) const {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (EqualsIgnoringCase(columns_[i].name, name.text)) return static_cast<int64_t>(i);
    names.push_back(columns_[i].name);
  }
  std::string hint = DidYouMean(NearestName(name.text, names));
  if (hint.empty()) hint = "DESCRIBE " + QuoteName(collection_) + " lists the columns.";
  return BinderError(name.range,
                     "column " + Quoted(name.text) + " not found in collection " + collection_,
                     std::move(hint));
}

Outcome<std::vector<ColumnSpec>> BindColumns(const std::vector<ColumnDefinition>& columns) {
  std::vector<ColumnSpec> bound;
  for (const ColumnDefinition& column : columns) {
    const auto has_name = [&column](std::string_view other) {
      return EqualsIgnoringCase(column.name.text, other);
    };
    for (const ColumnSpec& other : bound) {
      if (has_name(other.name)) {
        return BinderError(column.name.range,
                           "column " + Quoted(column.name.text) + " is declared twice");
      }
    }
    bool is_taken = has_name(kReservedColumns[0]) || has_name(kReservedColumns[1]);
    for (const ImplicitColumn& implicit : kImplicit) {
      is_taken = is_taken || has_name(implicit.name);
    }
    if (is_taken) {
      return BinderError(column.name.range,
                         "column " + Quoted(column.name.text) + " exists in every collection",
                         "Choose another name.");
    }
    bound.push_back({column.name.text, column.type});
  }
  return bound;
}

Outcome<Value> BindLiteral(const Literal& literal, ColumnType type, std::string_view column) {
  const Value& value = literal.value;
  const auto mismatch = [&](std::string_view found) {
    std::string hint;
    if (type.is_array && value.kind() != ValueKind::kList) hint = "Lists stand in brackets: [...].";
    if (literal.is_word) hint = "Strings stand in single quotes: 'text'.";
    if (type.base == BaseType::kTimestamp && value.kind() == ValueKind::kString) {
      hint = "Timestamps are written '2025-01-31' or '2025-01-31T12:00:00Z'.";
    }
    return BinderError(literal.range,
                       "column " + Quoted(column) + " is " + ColumnTypeName(type) +
                           ", the value is " + std::string(found),
                       std::move(hint));
  };
  if (literal.is_word) return mismatch("a name");
  if (value.is_null()) return Value();
  if (!type.is_array) {
    std::optional<Value> converted = ConvertScalar(value, type.base);
    if (!converted) return mismatch(Described(value.kind()));
    return *std::move(converted);
  }
  if (value.kind() != ValueKind::kList) return mismatch(Described(value.kind()));
  Value::List members;
  for (const Value& member : value.AsList()) {
    std::optional<Value> converted = ConvertScalar(member, type.base);
    if (!converted) return mismatch("a list with " + Described(member.kind()));
    if (converted->is_null()) return mismatch("a list with a null");
    members.push_back(*std::move(converted));
  }
  return Value(std::move(members));
}

Outcome<Row> BindMetadata(const std::vector<Option>& metadata, const CollectionSchema& schema) {
  const int64_t num_implicit = schema.num_implicit();
  Row row(schema.columns().size() - static_cast<size_t>(num_implicit));
  std::vector<uint8_t> is_given(row.size());
  for (const Option& option : metadata) {
    INTARSIA_ASSIGN_OR_FAIL(const int64_t index, schema.Find(option.name));
    if (index < num_implicit) {
      return BinderError(option.name.range,
                         "column " + Quoted(option.name.text) + " is set by the engine",
                         "METADATA takes the columns declared in CREATE COLLECTION.");
    }
    const auto place = static_cast<size_t>(index - num_implicit);
    if (is_given[place] != 0) {
      return BinderError(option.name.range,
                         "column " + Quoted(option.name.text) + " is given twice");
    }
    is_given[place] = 1;
    const ColumnSpec& column = schema.columns()[static_cast<size_t>(index)];
    INTARSIA_ASSIGN_OR_FAIL(row[place], BindLiteral(option.value, column.type, column.name));
  }
  return row;
}

namespace {

// Where a column of INSERT goes: a text of the document, or a declared column.
struct InsertTarget {
  std::string InsertDocument::*text = nullptr;
  size_t metadata_index = 0;
};

Outcome<InsertTarget> BindInsertColumn(const Name& name, const CollectionSchema& schema) {
  struct TextColumn {
    std::string_view name;
    std::string InsertDocument::*text;
  };
  static constexpr std::array<TextColumn, 5> kTexts = {{{"id", &InsertDocument::id},
                                                        {"doc_id", &InsertDocument::id},
                                                        {"content", &InsertDocument::content},
                                                        {"title", &InsertDocument::title},
                                                        {"source", &InsertDocument::source}}};
  for (const TextColumn& column : kTexts) {
    if (EqualsIgnoringCase(column.name, name.text)) return InsertTarget{column.text, 0};
  }
  INTARSIA_ASSIGN_OR_FAIL(const int64_t index, schema.Find(name));
  if (index < schema.num_implicit()) {
    return BinderError(name.range, "column " + Quoted(name.text) + " is set by the engine",
                       "INSERT takes id, content, title, source and the declared columns.");
  }
  return InsertTarget{nullptr, static_cast<size_t>(index - schema.num_implicit())};
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

Outcome<std::vector<InsertTarget>> BindInsertColumns(const Insert& insert,
                                                     const CollectionSchema& schema) {
  std::vector<InsertTarget> targets;
  bool has_id = false;
  bool has_content = false;
  for (const Name& name : insert.columns) {
    INTARSIA_ASSIGN_OR_FAIL(const InsertTarget target, BindInsertColumn(name, schema));
    for (const InsertTarget& other : targets) {
      if (other.text == target.text && other.metadata_index == target.metadata_index) {
        return BinderError(
            name.range, "column " + Quoted(name.text) + " is given twice",
            target.text == &InsertDocument::id ? "id and doc_id are two names of one column." : "");
      }
    }
    has_id = has_id || target.text == &InsertDocument::id;
    has_content = has_content || target.text == &InsertDocument::content;
    targets.push_back(target);
  }
  if (!has_id || !has_content) {
    return BinderError(insert.collection.range,
                       std::string("INSERT needs the column ") + (has_id ? "content" : "id"),
                       "INSERT INTO " + QuoteName(schema.collection()) +
                           " (id, content, ...) VALUES ('...', '...', ...).");
  }
  return targets;
}

}  // namespace

Outcome<std::vector<InsertDocument>> BindInsert(const Insert& insert,
                                                const CollectionSchema& schema) {
  INTARSIA_ASSIGN_OR_FAIL(const std::vector<InsertTarget> targets,
                          BindInsertColumns(insert, schema));
  const auto num_implicit = static_cast<size_t>(schema.num_implicit());
  std::vector<InsertDocument> documents;
  documents.reserve(insert.rows.size());
  for (const std::vector<Literal>& row : insert.rows) {
    InsertDocument document;
    document.metadata.resize(schema.columns().size() - num_implicit);
    SourceRange id_range;
    for (size_t i = 0; i < targets.size(); ++i) {
      const InsertTarget& target = targets[i];
      if (target.text == nullptr) {
        const ColumnSpec& column = schema.columns()[num_implicit + target.metadata_index];
        INTARSIA_ASSIGN_OR_FAIL(document.metadata[target.metadata_index],
                                BindLiteral(row[i], column.type, column.name));
        continue;
      }
      INTARSIA_ASSIGN_OR_FAIL(const Value text,
                              BindLiteral(row[i], kVarchar, insert.columns[i].text));
      if (!text.is_null()) document.*target.text = text.AsString();
      if (target.text == &InsertDocument::id) id_range = row[i].range;
      if (target.text == &InsertDocument::content && IsBlank(document.content)) {
        return InputError(row[i].range, std::string("the content of a document may not be ") +
                                            (text.is_null() ? "null" : "empty"));
      }
    }
    if (document.id.empty()) {
      return InputError(id_range, "the id of a document may not be empty");
    }
    if (document.source.empty()) document.source = document.id;
    documents.push_back(std::move(document));
  }
  return documents;
}

}  // namespace intarsia::query
