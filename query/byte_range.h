// ByteRange: a half-open range of bytes in a text; what blocks, sentences and chunks are.
//
// Thread safety: a plain value.
#pragma once

#include <cstdint>
#include <string_view>

namespace intarsia::query {

struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;

  // REQUIRES: the range lies inside `text`.
  std::string_view Of(std::string_view text) const {
    return text.substr(static_cast<size_t>(begin), static_cast<size_t>(size()));
  }
};

}  // namespace intarsia::query
