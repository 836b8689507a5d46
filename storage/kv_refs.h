// KvRefs: who owns which KV cache, as rows of the family kv_refs.
//
// Each ownership is two rows, one to find the caches of an owner and one to find the owners of a
// cache; both are written and removed in the batch that changes the entry.
//
// Thread safety: a KvRefRemoval is owned by one thread, under the database's commit mutex.
// Format: docs/formats/kv_segments.md
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/hash.h"
#include "base/result.h"
#include "storage/kv_store.h"
#include "storage/rocks.h"

namespace intarsia::storage {

// Key prefixes of the rows that lead from an owner to its caches.
std::string KvCollectionPrefix(CollectionId collection);
std::string KvDocumentPrefix(CollectionId collection, DocumentId document);
std::string KvChunkPrefix(const KvOwner& owner);
std::string KvModelPrefix(ModelId model);
// The row that says that the chunk of `owner` has the cache.
std::string KvChunkKey(const Digest& identity, const KvOwner& owner);
// Of the rows that lead from a cache to its owners.
std::string KvOwnersPrefix(const Digest& identity);

// The identity at the end of such a row's key.
Result<Digest> IdentityInKey(std::string_view key);

// Adds the rows that make `owner` own the cache.
void AddKvOwner(const Digest& identity, const KvOwner& owner, RowBatch* batch);

// Gathers what one batch removes, so that a cache goes exactly if its last chunk does.
class KvRefRemoval {
 public:
  KvRefRemoval(const Rocks* rocks, RowBatch* batch) : rocks_(rocks), batch_(batch) {}

  // Removes the ownership of all rows below a prefix of chunks. Errors: kIo, kCorruption.
  Status RemoveOwners(const std::string& prefix);
  // Removes every cache of the model, whoever else owns it.
  Status RemoveModel(ModelId model);
  // Removes one cache with all its rows.
  Status RemoveEntry(const Digest& identity);
  // Removes the caches that lost their last chunk. Call it once, last.
  Status Finish();

  // The caches that go with the batch. Take them out of memory when it has been written.
  const std::set<Digest>& gone() const { return gone_; }

 private:
  Result<bool> HasChunkLeft(const Digest& identity) const;

  const Rocks* rocks_;
  RowBatch* batch_;
  std::set<std::string> removed_rows_;  // Owner to cache.
  std::set<Digest> touched_;
  std::set<Digest> gone_;
};

}  // namespace intarsia::storage
