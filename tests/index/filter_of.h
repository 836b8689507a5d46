// FilterOf: a bitmap for SearchParams::filter with the slots of some ids.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "index/flat_index.h"

namespace intarsia::index {

// Ids that are not in the index are passed over.
inline std::vector<uint64_t> FilterOf(const FlatIndex& index, std::span<const uint64_t> ids) {
  const std::set<uint64_t> wanted(ids.begin(), ids.end());
  // One word at least, because an empty filter means all slots.
  std::vector<uint64_t> words(static_cast<size_t>(std::max<int64_t>(1, (index.size() + 63) / 64)));
  for (int64_t slot = 0; slot < index.size(); ++slot) {
    if (!wanted.contains(index.ids()[static_cast<size_t>(slot)])) continue;
    words[static_cast<size_t>(slot / 64)] |= uint64_t{1} << (slot % 64);
  }
  return words;
}

}  // namespace intarsia::index
