// Value, ColumnType, ResultSet: what a statement computes with and what it returns.
//
// A Value is one of eight kinds; lists and objects nest, so that the citations of an answer travel
// as one cell. Columns of a collection have a ColumnType; a cell of one is null or of the kind that
// KindOf(type) names.
//
// Thread safety: plain values; concurrent const calls only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/result.h"

namespace intarsia::query {

// The order is that of the alternatives inside Value.
enum class ValueKind : uint8_t {
  kNull,
  kBoolean,
  kInteger,
  kDouble,
  kTimestamp,
  kString,
  kList,
  kObject,
};

// In words, for example "integer".
std::string_view ValueKindName(ValueKind kind);

// Microseconds since 1970-01-01T00:00:00Z.
struct Timestamp {
  int64_t micros = 0;
  bool operator==(const Timestamp&) const = default;
  bool operator<(const Timestamp& other) const { return micros < other.micros; }
};

// Reads `YYYY-MM-DD`, optionally followed by a blank or `T` and `HH:MM[:SS[.ffffff]]` and by `Z` or
// `+HH:MM`; without a zone it is UTC. Years 0001 to 9999.
// Errors: kInvalidArgument.
Result<Timestamp> ParseTimestamp(std::string_view text);
// For example 2025-01-31T12:00:00Z; a fraction of a second only if there is one.
std::string FormatTimestamp(Timestamp timestamp);

struct Field;

class Value {
 public:
  using List = std::vector<Value>;
  using Object = std::vector<Field>;  // In the order of writing; names are unique.

  Value();  // Null.
  explicit Value(bool value);
  explicit Value(int value);
  explicit Value(int64_t value);
  explicit Value(double value);
  explicit Value(Timestamp value);
  explicit Value(std::string value);
  explicit Value(std::string_view value);
  explicit Value(const char* value);
  explicit Value(List value);
  explicit Value(Object value);

  ValueKind kind() const { return static_cast<ValueKind>(state_.index()); }
  bool is_null() const { return kind() == ValueKind::kNull; }

  // REQUIRES of all: the kind is the one asked for.
  bool AsBoolean() const { return As<bool>(); }
  int64_t AsInteger() const { return As<int64_t>(); }
  double AsDouble() const { return As<double>(); }
  Timestamp AsTimestamp() const { return As<Timestamp>(); }
  const std::string& AsString() const { return As<std::string>(); }
  const List& AsList() const { return As<List>(); }
  const Object& AsObject() const { return As<Object>(); }

  // The field of that name, or null if there is none or this is no object.
  const Value* Find(std::string_view name) const;

  // Same kind and same content; 1 and 1.0 differ, and so does NaN from itself.
  bool operator==(const Value& other) const;

 private:
  template <typename T>
  const T& As() const {
    const T* value = std::get_if<T>(&state_);
    INTARSIA_CHECK(value != nullptr);
    return *value;
  }

  std::variant<std::monostate, bool, int64_t, double, Timestamp, std::string, List, Object> state_;
};

struct Field {
  std::string name;
  Value value;
  bool operator==(const Field&) const = default;
};

// As a person reads it in a table: strings bare, null as `null_text`, lists and objects as JSON.
std::string ToText(const Value& value, std::string_view null_text);
// As JSON (RFC 8259) on one line: timestamps as strings, NaN and infinities as null, ill-formed
// UTF-8 replaced by U+FFFD.
std::string ToJson(const Value& value);
// Appends `text` as a JSON string with its quotes.
void AppendJsonString(std::string_view text, std::string* json);

enum class BaseType : uint8_t { kVarchar, kInt, kDouble, kBoolean, kTimestamp };

struct ColumnType {
  BaseType base = BaseType::kVarchar;
  bool is_array = false;
  bool operator==(const ColumnType&) const = default;
};

// As written in SQL, for example VARCHAR[].
std::string ColumnTypeName(ColumnType type);
// The kind of a cell that is not null.
ValueKind KindOf(ColumnType type);

struct ResultColumn {
  std::string name;
  ValueKind kind = ValueKind::kNull;  // kNull: mixed, or not known beforehand.
};

using Row = std::vector<Value>;

struct ResultSet {
  std::vector<ResultColumn> columns;  // Empty: the statement returns no rows.
  std::vector<Row> rows;              // Each [columns.size()].
  std::vector<std::string> notices;   // Sentences for the user, in order.
  std::string footer;                 // For people, below the rows: "3 rows, 4 ms (hybrid)".
};

}  // namespace intarsia::query
