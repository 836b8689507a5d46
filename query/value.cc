#include "query/value.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"

namespace intarsia::query {
namespace {

// The shortest text that reads back as the same number; whole numbers keep ".0".
std::string FormatDouble(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void AppendJson(const Value& value, std::string* json) {
  switch (value.kind()) {
    case ValueKind::kNull:
      json->append("null");
      return;
    case ValueKind::kBoolean:
      json->append(value.AsBoolean() ? "true" : "false");
      return;
    case ValueKind::kInteger:
      json->append(std::to_string(value.AsInteger()));
      return;
    case ValueKind::kDouble:
      json->append(std::isfinite(value.AsDouble()) ? FormatDouble(value.AsDouble()) : "null");
      return;
    case ValueKind::kTimestamp:
      AppendJsonString(FormatTimestamp(value.AsTimestamp()), json);
      return;
    case ValueKind::kString:
      AppendJsonString(value.AsString(), json);
      return;
    case ValueKind::kList: {
      char separator = '[';
      for (const Value& element : value.AsList()) {
        json->push_back(separator);
        AppendJson(element, json);
        separator = ',';
      }
      json->append(separator == '[' ? "[]" : "]");
      return;
    }
    case ValueKind::kObject: {
      char separator = '{';
      for (const Field& field : value.AsObject()) {
        json->push_back(separator);
        AppendJsonString(field.name, json);
        json->push_back(':');
        AppendJson(field.value, json);
        separator = ',';
      }
      json->append(separator == '{' ? "{}" : "}");
      return;
    }
  }
}

}  // namespace

std::string_view ValueKindName(ValueKind kind) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "null", "boolean", "integer", "double", "timestamp", "string", "list", "object"};
  return kNames[static_cast<size_t>(kind)];
}

// Out of the header: a Field holds a Value, so it is complete only behind that class.
Value::Value() = default;
Value::Value(bool value) : state_(value) {}
Value::Value(int value) : state_(int64_t{value}) {}
Value::Value(int64_t value) : state_(value) {}
Value::Value(double value) : state_(value) {}
Value::Value(Timestamp value) : state_(value) {}
Value::Value(std::string value) : state_(std::move(value)) {}
Value::Value(std::string_view value) : state_(std::string(value)) {}
Value::Value(const char* value) : state_(std::string(value)) {}
Value::Value(List value) : state_(std::move(value)) {}
Value::Value(Object value) : state_(std::move(value)) {}

const Value* Value::Find(std::string_view name) const {
  if (kind() != ValueKind::kObject) return nullptr;
  for (const Field& field : AsObject()) {
    if (field.name == name) return &field.value;
  }
  return nullptr;
}

bool Value::operator==(const Value& other) const { return state_ == other.state_; }

void AppendJsonString(std::string_view text, std::string* json) {
  std::string repaired;
  if (FindInvalidUtf8(text) >= 0) {
    repaired = RepairUtf8(text, nullptr);
    text = repaired;
  }
  json->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        json->append("\\\"");
        break;
      case '\\':
        json->append("\\\\");
        break;
      case '\n':
        json->append("\\n");
        break;
      case '\r':
        json->append("\\r");
        break;
      case '\t':
        json->append("\\t");
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          std::array<char, 8> buffer{};
          std::snprintf(buffer.data(), buffer.size(), "\\u%04x", static_cast<unsigned>(c));
          json->append(buffer.data());
        } else {
          json->push_back(c);
        }
    }
  }
  json->push_back('"');
}

std::string ToJson(const Value& value) {
  std::string json;
  AppendJson(value, &json);
  return json;
}

std::string ToText(const Value& value, std::string_view null_text) {
  switch (value.kind()) {
    case ValueKind::kNull:
      return std::string(null_text);
    case ValueKind::kString:
      return value.AsString();
    case ValueKind::kTimestamp:
      return FormatTimestamp(value.AsTimestamp());
    case ValueKind::kDouble:
      return FormatDouble(value.AsDouble());
    default:
      return ToJson(value);
  }
}

std::string ColumnTypeName(ColumnType type) {
  static constexpr std::array<std::string_view, 5> kNames = {"VARCHAR", "INT", "DOUBLE", "BOOLEAN",
                                                             "TIMESTAMP"};
  return std::string(kNames[static_cast<size_t>(type.base)]) + (type.is_array ? "[]" : "");
}

ValueKind KindOf(ColumnType type) {
  if (type.is_array) return ValueKind::kList;
  static constexpr std::array<ValueKind, 5> kKinds = {ValueKind::kString, ValueKind::kInteger,
                                                      ValueKind::kDouble, ValueKind::kBoolean,
                                                      ValueKind::kTimestamp};
  return kKinds[static_cast<size_t>(type.base)];
}

}  // namespace intarsia::query
