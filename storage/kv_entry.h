// KvEntry: where the layers of one KV cache lie, and what they must contain.
//
// Thread safety: immutable once shared.
// Format: docs/formats/kv_segments.md
#pragma once

#include <cstdint>
#include <vector>

#include "base/hash.h"
#include "storage/kv_store.h"

namespace intarsia::storage {

// Extents begin at multiples of this, for direct reads; a segment's header takes as much.
inline constexpr int64_t kKvAlignment = 4096;

inline int64_t KvAligned(int64_t num_bytes) {
  return (num_bytes + kKvAlignment - 1) / kKvAlignment * kKvAlignment;
}

struct KvExtent {
  int64_t offset = 0;
  int64_t num_bytes = 0;
  Checksum checksum;

  bool operator==(const KvExtent&) const = default;
};

struct KvEntry {
  Digest identity;  // Stands in the key of the record.
  KvShape shape;
  uint64_t segment = 0;
  std::vector<KvExtent> extents;  // [shape.num_layers]

  bool operator==(const KvEntry&) const = default;

  // What the entry takes in its segment, with the padding behind each extent.
  int64_t disk_bytes() const {
    int64_t sum = 0;
    for (const KvExtent& extent : extents) sum += KvAligned(extent.num_bytes);
    return sum;
  }
  int64_t payload_bytes() const {
    int64_t sum = 0;
    for (const KvExtent& extent : extents) sum += extent.num_bytes;
    return sum;
  }
};

}  // namespace intarsia::storage
