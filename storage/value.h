// Value: one piece of typed metadata: null, bool, int64, double, string or a list of those.
//
// A list holds scalars only, because filters compare with its members and nothing deeper.
//
// Thread safety: like a std::variant.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace intarsia::storage {

enum class ValueType : uint8_t {
  kNull = 0,
  kBool = 1,
  kInt = 2,
  kDouble = 3,
  kString = 4,
  kList = 5,
};

// The type as SQL writes it, for example "BIGINT" for kInt.
std::string_view ValueTypeName(ValueType type);

class Value {
 public:
  using List = std::vector<Value>;

  Value() = default;  // Null.
  explicit Value(bool value) : data_(value) {}
  explicit Value(int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string value) : data_(std::move(value)) {}
  explicit Value(const char* value) : data_(std::string(value)) {}
  explicit Value(List value) : data_(std::move(value)) {}

  ValueType type() const { return static_cast<ValueType>(data_.index()); }
  bool is_null() const { return type() == ValueType::kNull; }

  // The value if it is of that type, else null. Valid while this Value is unchanged.
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&data_); }
  const double* as_double() const { return std::get_if<double>(&data_); }
  const std::string* as_string() const { return std::get_if<std::string>(&data_); }
  const List* as_list() const { return std::get_if<List>(&data_); }

  bool operator==(const Value& other) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List> data_;
};

// Metadata by name.
using Attributes = std::map<std::string, Value>;

// Appends `value`. Errors: kInvalidArgument for a list inside a list.
Status WriteValue(const Value& value, ByteWriter* writer);

// Reads what WriteValue wrote. Errors: kCorruption.
Result<Value> ReadValue(ByteReader* reader);

Status WriteAttributes(const Attributes& attributes, ByteWriter* writer);
Result<Attributes> ReadAttributes(ByteReader* reader);

}  // namespace intarsia::storage
