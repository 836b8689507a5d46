#include "storage/keys.h"

#include <array>

#include "base/check.h"

namespace intarsia::storage {

std::string_view FamilyName(Family family) {
  static constexpr std::array<std::string_view, kNumFamilies> kNames = {
      "catalog",  "documents", "text",    "chunks", "vectors",
      "postings", "kv_index",  "kv_refs", "meta"};
  return kNames[static_cast<size_t>(family)];
}

Key& Key::Id(uint64_t id) {
  for (int shift = 56; shift >= 0; shift -= 8) bytes_.push_back(static_cast<char>(id >> shift));
  return *this;
}

uint64_t IdInKey(std::string_view key, size_t offset) {
  INTARSIA_CHECK(offset + 8 <= key.size());
  uint64_t id = 0;
  for (size_t i = 0; i < 8; ++i) id = id << 8 | static_cast<uint8_t>(key[offset + i]);
  return id;
}

std::string KeyAfterPrefix(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  INTARSIA_CHECK(!prefix.empty());
  prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

}  // namespace intarsia::storage
