// ModelInfo and CollectionInfo: what a database knows about its models and its collections.
//
// Thread safety: plain values; the functions may be called concurrently.
// Format: docs/formats/catalog.md
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "storage/ids.h"
#include "storage/value.h"

namespace intarsia::storage {

// Free key/value pairs, in the words of whoever writes them.
using Options = std::map<std::string, std::string>;

// The value of `name`, or `fallback` where there is none.
std::string OptionOr(const Options& options, const std::string& name, std::string_view fallback);
// The same as a number; `fallback` also for what is no whole number.
int64_t NumberOptionOr(const Options& options, const std::string& name, int64_t fallback);

enum class ModelType : uint8_t { kGenerate = 1, kEmbedding = 2, kRerank = 3 };

struct ModelInfo {
  ModelId id = 0;    // Given by the database.
  std::string name;  // Unique among models, 1 to 255 bytes.
  ModelType type = ModelType::kGenerate;
  std::string path;  // A file, a directory or a URL, as the user gave it.
  Digest weights_digest;
  std::string architecture;  // For example "llama"; empty if unknown.
  Options parameters;

  bool operator==(const ModelInfo&) const = default;
};

struct Column {
  std::string name;                          // Unique within its collection.
  ValueType type = ValueType::kString;       // kBool, kInt, kDouble, kString or kList.
  ValueType item_type = ValueType::kString;  // Of the members, where type is kList.

  bool operator==(const Column&) const = default;
};

struct CollectionInfo {
  CollectionId id = 0;  // Given by the database.
  std::string name;     // Unique among collections, 1 to 255 bytes.
  std::vector<Column> columns;
  // Embedding model's name, chunker and what it was told, KV policy, budgets.
  Options options;

  bool operator==(const CollectionInfo&) const = default;
};

// What a collection holds now.
struct CollectionStats {
  // Changes with every commit that touches the collection and never returns to an old value: an
  // index or a cache built at another generation is stale.
  uint64_t generation = 0;
  int64_t num_documents = 0;
  int64_t num_chunks = 0;
  int64_t text_bytes = 0;  // Of all documents; a text that two documents share counts twice.

  struct Vectors {
    ModelId model = 0;
    int64_t dimension = 0;
    int64_t num_vectors = 0;
    bool operator==(const Vectors&) const = default;
  };
  std::vector<Vectors> vectors;  // One row per embedding model, by id.

  bool operator==(const CollectionStats&) const = default;
};

}  // namespace intarsia::storage
