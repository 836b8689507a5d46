#include "storage/value.h"

namespace intarsia::storage {
namespace {

void WriteScalar(const Value& value, ByteWriter* writer) {
  writer->Write(static_cast<uint8_t>(value.type()));
  if (const bool* flag = value.as_bool()) writer->Write(static_cast<uint8_t>(*flag ? 1 : 0));
  if (const int64_t* number = value.as_int()) writer->Write(*number);
  if (const double* number = value.as_double()) writer->Write(*number);
  if (const std::string* text = value.as_string()) writer->WriteString(*text);
}

Status BadValue(std::string_view what, uint64_t value) {
  return Status(StatusCode::kCorruption, std::string(what) + ": value=" + std::to_string(value));
}

Result<Value> ReadScalar(ValueType type, ByteReader* reader) {
  switch (type) {
    case ValueType::kNull:
      return Value();
    case ValueType::kBool: {
      const auto flag = reader->Read<uint8_t>();
      if (flag > 1) return BadValue("a truth value is 0 or 1", flag);
      return Value(flag == 1);
    }
    case ValueType::kInt:
      return Value(reader->Read<int64_t>());
    case ValueType::kDouble:
      return Value(reader->Read<double>());
    case ValueType::kString:
      return Value(std::string(reader->ReadString()));
    case ValueType::kList:
      break;
  }
  return BadValue("unknown type of a metadata value", static_cast<uint64_t>(type));
}

}  // namespace

std::string_view ValueTypeName(ValueType type) {
  switch (type) {
    case ValueType::kNull:
      return "NULL";
    case ValueType::kBool:
      return "BOOLEAN";
    case ValueType::kInt:
      return "BIGINT";
    case ValueType::kDouble:
      return "DOUBLE";
    case ValueType::kString:
      return "VARCHAR";
    case ValueType::kList:
      return "LIST";
  }
  return "UNKNOWN";
}

Status WriteValue(const Value& value, ByteWriter* writer) {
  const Value::List* list = value.as_list();
  if (list == nullptr) {
    WriteScalar(value, writer);
    return Status::Ok();
  }
  for (const Value& item : *list) {
    if (item.as_list() != nullptr) {
      return Status(StatusCode::kInvalidArgument, "a metadata list cannot hold a list");
    }
  }
  writer->Write(static_cast<uint8_t>(ValueType::kList));
  writer->Write(static_cast<uint64_t>(list->size()));
  for (const Value& item : *list) WriteScalar(item, writer);
  return Status::Ok();
}

Result<Value> ReadValue(ByteReader* reader) {
  const auto type = static_cast<ValueType>(reader->Read<uint8_t>());
  if (type != ValueType::kList) return ReadScalar(type, reader);
  const auto num_items = reader->Read<uint64_t>();
  // An item takes a byte or more, so this bounds the memory by the input.
  if (num_items > static_cast<uint64_t>(reader->remaining())) {
    return BadValue("a metadata list is longer than its record", num_items);
  }
  Value::List items;
  items.reserve(num_items);
  for (uint64_t i = 0; i < num_items; ++i) {
    INTARSIA_ASSIGN_OR_RETURN(Value item,
                              ReadScalar(static_cast<ValueType>(reader->Read<uint8_t>()), reader));
    items.push_back(std::move(item));
  }
  INTARSIA_RETURN_IF_ERROR(reader->status());
  return Value(std::move(items));
}

Status WriteAttributes(const Attributes& attributes, ByteWriter* writer) {
  writer->Write(static_cast<uint64_t>(attributes.size()));
  for (const auto& [name, value] : attributes) {
    writer->WriteString(name);
    INTARSIA_RETURN_IF_ERROR(WriteValue(value, writer));
  }
  return Status::Ok();
}

Result<Attributes> ReadAttributes(ByteReader* reader) {
  const auto num_attributes = reader->Read<uint64_t>();
  Attributes attributes;
  for (uint64_t i = 0; i < num_attributes && !reader->failed(); ++i) {
    const std::string_view name = reader->ReadString();
    INTARSIA_ASSIGN_OR_RETURN(Value value, ReadValue(reader));
    attributes.insert_or_assign(std::string(name), std::move(value));
  }
  INTARSIA_RETURN_IF_ERROR(reader->status());
  return attributes;
}

}  // namespace intarsia::storage
