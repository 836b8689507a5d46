// Keys: how the rows of each RocksDB column family are named.
//
// A key is a letter that says what the row is, then fixed-width fields. Integers are big-endian, so
// that rows sort by them; what varies in length stands last.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/catalog.md, docs/formats/documents.md, docs/formats/kv_segments.md,
//         docs/formats/postings.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "storage/ids.h"

namespace intarsia::storage {

enum class Family : uint8_t {
  kCatalog,
  kDocuments,
  kText,
  kChunks,
  kVectors,
  kPostings,
  kKvIndex,
  kKvRefs,
  kMeta,
};
inline constexpr int kNumFamilies = 9;

// The column family's name in RocksDB.
std::string_view FamilyName(Family family);

// Builds a key field by field.
class Key {
 public:
  explicit Key(char kind) : bytes_(1, kind) {}
  Key& Id(uint64_t id);
  Key& Name(std::string_view name) {
    bytes_.append(name);
    return *this;
  }
  Key& Hash(const Digest& digest) { return Name(digest.view()); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The id in the eight bytes at `offset` of a key. REQUIRES: they exist.
uint64_t IdInKey(std::string_view key, size_t offset);

// The smallest key above all that begin with `prefix`. REQUIRES: a byte of it is below 0xff.
std::string KeyAfterPrefix(std::string prefix);

inline std::string ModelKey(ModelId id) { return Key('m').Id(id).bytes(); }
inline std::string ModelNameKey(std::string_view name) { return Key('M').Name(name).bytes(); }
inline std::string CollectionKey(CollectionId id) { return Key('c').Id(id).bytes(); }
inline std::string CollectionNameKey(std::string_view name) { return Key('C').Name(name).bytes(); }
inline std::string SettingKey(std::string_view name) { return Key('s').Name(name).bytes(); }

inline std::string DocumentKey(DocumentId id) { return Key('d').Id(id).bytes(); }
inline std::string SourceKey(CollectionId collection, std::string_view source) {
  return Key('s').Id(collection).Name(source).bytes();
}
inline std::string ListingPrefix(CollectionId collection) {
  return Key('c').Id(collection).bytes();
}
inline std::string ListingKey(CollectionId collection, DocumentId document) {
  return Key('c').Id(collection).Id(document).bytes();
}

inline std::string TextKey(const Digest& digest) { return Key('t').Hash(digest).bytes(); }
inline std::string TextCountKey(const Digest& digest) { return Key('n').Hash(digest).bytes(); }

inline std::string ChunkKey(ChunkId id) { return Key('c').Id(id).bytes(); }

inline std::string VectorsOfModelPrefix(ModelId model) { return Key('v').Id(model).bytes(); }
inline std::string VectorsPrefix(ModelId model, CollectionId collection) {
  return Key('v').Id(model).Id(collection).bytes();
}
inline std::string VectorKey(ModelId model, CollectionId collection, ChunkId chunk) {
  return Key('v').Id(model).Id(collection).Id(chunk).bytes();
}

inline std::string PostingsPrefix(CollectionId collection) {
  return Key('p').Id(collection).bytes();
}
// The generation that the collection's postings belong to.
inline std::string PostingsMarkKey(CollectionId collection) {
  return Key('g').Id(collection).bytes();
}

inline std::string KvEntryKey(const Digest& identity) { return Key('e').Hash(identity).bytes(); }
inline std::string KvUseKey(const Digest& identity) { return Key('u').Hash(identity).bytes(); }
// How long the user wants a cache to stay; a cache without this row is evictable.
inline std::string KvRetentionKey(const Digest& identity) {
  return Key('p').Hash(identity).bytes();
}
inline std::string KvNextSegmentKey() { return Key('n').bytes(); }

inline std::string StatsKey(CollectionId collection) { return Key('g').Id(collection).bytes(); }
// The last commit that changed vectors of chunks that were there.
inline std::string VectorsChangedKey(CollectionId collection) {
  return Key('v').Id(collection).bytes();
}
inline std::string DroppedKey(CollectionId collection) { return Key('x').Id(collection).bytes(); }
inline std::string IdsKey() { return Key('i').bytes(); }
inline std::string CommitKey() { return Key('q').bytes(); }
inline std::string FormatKey() { return Key('f').bytes(); }

}  // namespace intarsia::storage
