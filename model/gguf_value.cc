#include "model/gguf_value.h"

#include "base/bytes.h"
#include "base/check.h"

namespace intarsia::model {
namespace {

// A uint64 above the range of int64 comes out negative.
int64_t ReadInt(GgufValueType type, ByteReader* reader) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kBool:
      return reader->Read<uint8_t>();
    case GgufValueType::kInt8:
      return reader->Read<int8_t>();
    case GgufValueType::kUint16:
      return reader->Read<uint16_t>();
    case GgufValueType::kInt16:
      return reader->Read<int16_t>();
    case GgufValueType::kUint32:
      return reader->Read<uint32_t>();
    case GgufValueType::kInt32:
      return reader->Read<int32_t>();
    default:
      return reader->Read<int64_t>();
  }
}

}  // namespace

int64_t GgufWidth(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      break;
  }
  return 0;
}

bool IsGgufFloat(GgufValueType type) {
  return type == GgufValueType::kFloat32 || type == GgufValueType::kFloat64;
}

bool IsGgufInt(GgufValueType type) { return GgufWidth(type) > 0 && !IsGgufFloat(type); }

std::optional<std::vector<int64_t>> GgufInts(const GgufValue& value) {
  INTARSIA_CHECK(IsGgufInt(value.type));
  std::vector<int64_t> numbers;
  numbers.reserve(static_cast<size_t>(value.count));
  ByteReader reader(value.bytes);
  for (int64_t i = 0; i < value.count; ++i) {
    numbers.push_back(ReadInt(value.type, &reader));
    if (value.type == GgufValueType::kUint64 && numbers.back() < 0) return std::nullopt;
  }
  return numbers;
}

std::vector<double> GgufFloats(const GgufValue& value) {
  INTARSIA_CHECK(IsGgufFloat(value.type));
  std::vector<double> numbers;
  numbers.reserve(static_cast<size_t>(value.count));
  ByteReader reader(value.bytes);
  for (int64_t i = 0; i < value.count; ++i) {
    const bool is_single = value.type == GgufValueType::kFloat32;
    numbers.push_back(is_single ? static_cast<double>(reader.Read<float>())
                                : reader.Read<double>());
  }
  return numbers;
}

std::vector<std::string_view> GgufStrings(const GgufValue& value) {
  INTARSIA_CHECK(value.is_array && value.type == GgufValueType::kString);
  std::vector<std::string_view> strings;
  strings.reserve(static_cast<size_t>(value.count));
  ByteReader reader(value.bytes);
  for (int64_t i = 0; i < value.count; ++i) strings.push_back(reader.ReadString());
  return strings;
}

}  // namespace intarsia::model
