// GgufValue: a value of a GGUF file's metadata, as it lies there, and its reading.
//
// Thread safety: all functions may be called concurrently.
// Lifetime: a GgufValue and the strings that are read from it point into the file's bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace intarsia::model {

// In the numbering of the format.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of a number or boolean; 0 for a string, an array and what is no type at all.
int64_t GgufWidth(GgufValueType type);
// Booleans count as integers.
bool IsGgufInt(GgufValueType type);
bool IsGgufFloat(GgufValueType type);

// Checked by the parser to be whole: `bytes` holds exactly `count` elements of `type`; the text
// alone for a string, length-prefixed ones for an array of strings.
struct GgufValue {
  GgufValueType type = GgufValueType::kUint8;  // of the elements, if it is an array
  bool is_array = false;
  int64_t count = 1;
  std::string_view bytes;
};

// The `count` elements of a value. REQUIRES: its type is an integer, a float, an array of strings.
// The integers are absent if one does not fit into int64.
std::optional<std::vector<int64_t>> GgufInts(const GgufValue& value);
std::vector<double> GgufFloats(const GgufValue& value);
std::vector<std::string_view> GgufStrings(const GgufValue& value);

}  // namespace intarsia::model
