// Sample documents and KV caches, and ways to a value for tests that expect one.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/database.h"

namespace intarsia::storage {

// The value, or the end of the test program with the error.
template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "unexpected: %s\n", result.status().ToString().c_str());
    std::abort();
  }
  return *std::move(result);
}
inline void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "unexpected: %s\n", status.ToString().c_str());
  std::abort();
}

inline std::unique_ptr<Database> OpenDatabase(const std::string& path,
                                              const DatabaseOptions& options = {}) {
  return Must(Database::Open(path, options));
}

inline ModelInfo SampleModel(const std::string& name, ModelType type) {
  return {.id = 0,
          .name = name,
          .type = type,
          .path = "/models/" + name,
          .weights_digest = DigestOf(name),
          .architecture = "llama",
          .parameters = {{"dim", "4"}}};
}

inline CollectionInfo SampleCollection(const std::string& name) {
  return {.id = 0,
          .name = name,
          .columns = {{.name = "lang", .type = ValueType::kString},
                      {.name = "acl", .type = ValueType::kList, .item_type = ValueType::kString}},
          .options = {{"chunker", "structure"}, {"kv_cache", "lazy"}}};
}

// A document whose text is cut into chunks of ten bytes, each with token ids and, for a model other
// than 0, a vector of dimension 4.
inline NewDocument SampleDocument(const std::string& source, const std::string& text,
                                  ModelId model) {
  NewDocument document;
  document.source = source;
  document.title = "Title of " + source;
  document.media_type = "text/plain";
  document.metadata = {{"lang", Value("en")}, {"year", Value(int64_t{2024})}};
  document.text = text;
  document.ingested_at_ms = 1'700'000'000'000;
  document.chunker = "fixed(10)";
  for (size_t begin = 0; begin < text.size(); begin += 10) {
    NewChunk chunk;
    chunk.byte_begin = static_cast<int64_t>(begin);
    chunk.byte_end = static_cast<int64_t>(std::min(begin + 10, text.size()));
    chunk.heading_path = {"Top", "Part " + std::to_string(begin / 10)};
    if (model != 0) {
      const auto x = static_cast<float>(begin);
      chunk.vectors = {{.model = model, .values = {x, x + 1, x + 2, x + 3}}};
    }
    document.chunks.push_back(std::move(chunk));
  }
  return document;
}

inline std::vector<StoredDocument> PutOne(Database* database, CollectionId collection,
                                          const NewDocument& document) {
  return Must(database->PutDocuments(collection, {&document, 1}));
}

// A KV cache whose bytes follow from its name.
struct SampleCache {
  SampleCache(const std::string& name, int64_t num_layers, int64_t layer_bytes)
      : identity(DigestOf(name)), shape{.num_layers = num_layers, .num_tokens = 8, .quantizer = 3} {
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      std::string payload;
      for (uint64_t i = 0; static_cast<int64_t>(payload.size()) < layer_bytes; ++i) {
        payload.append(DigestOf(name + std::to_string(layer) + "." + std::to_string(i)).view());
      }
      payload.resize(static_cast<size_t>(layer_bytes));
      payloads.push_back(std::move(payload));
    }
    layers.assign(payloads.begin(), payloads.end());
  }
  SampleCache(const SampleCache&) = delete;
  SampleCache& operator=(const SampleCache&) = delete;

  KvPut Put(const KvOwner& owner, uint64_t generation) const {
    return {.identity = identity,
            .shape = shape,
            .layers = layers,
            .owner = owner,
            .generation = generation};
  }

  Digest identity;
  KvShape shape;
  std::vector<std::string> payloads;
  std::vector<std::string_view> layers;
};

inline KvPutOutcome PutCache(Database* database, const SampleCache& cache, const KvOwner& owner) {
  return Must(database->kv()->Put(cache.Put(owner, database->kv()->generation())));
}

// Whether the store returns all layers of the cache; wrong bytes end the program.
inline bool IsServed(KvStore* store, const SampleCache& cache) {
  Result<KvHandle> handle = store->Find(cache.identity);
  if (!handle.ok()) return false;
  if (handle->shape() != cache.shape) std::abort();
  for (int64_t layer = 0; layer < cache.shape.num_layers; ++layer) {
    const std::string& want = cache.payloads[static_cast<size_t>(layer)];
    std::vector<uint8_t> target(want.size());
    if (!store->ReadLayer(*handle, layer, target).ok()) return false;
    if (std::string(target.begin(), target.end()) != want) std::abort();
  }
  return true;
}

}  // namespace intarsia::storage
