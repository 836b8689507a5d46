// BuildSafetensors: writes small safetensors files for tests, from a header as it is given.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace intarsia::model {

// The length of `header`, the header, the data; nothing is checked.
inline std::string BuildSafetensors(std::string_view header, std::string_view data) {
  ByteWriter file;
  file.WriteString(header);
  file.WriteBytes(data);
  return std::move(file).TakeBytes();
}

// A tensor's entry in a header: `"name":{"dtype":...}`.
inline std::string SafetensorsEntry(const std::string& name, const std::string& dtype,
                                    const std::string& shape, int64_t begin, int64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace intarsia::model
