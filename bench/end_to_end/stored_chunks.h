// StoredChunks: KV caches of chunks in a database of their own, read warm or cold.
//
// Thread safety: owned by one thread; the sources may be read concurrently.
// Lifetime: outlives the sources that it gives.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/storage/page_cache.h"
#include "engine/fusion/kv_source.h"
#include "storage/database.h"

namespace intarsia::bench {

class StoredChunks {
 public:
  // Makes a database in a new temporary directory, which goes with the object.
  static Result<std::unique_ptr<StoredChunks>> Create();
  StoredChunks(const StoredChunks&) = delete;
  StoredChunks& operator=(const StoredChunks&) = delete;

  // Stores a cache and returns it as it is read back from the store.
  // Errors: those of KvStore::Put and Find; kResourceExhausted if the budget refuses it.
  Result<std::unique_ptr<engine::KvSource>> Add(const engine::MemoryKv& kv);

  // Writes the segment files out and asks the system to forget their pages.
  // Errors: kIo.
  Status DropFromPageCache();
  // The share of the segment files that lies in the page cache, in [0, 1]. On a file system in
  // memory everything stays. Errors: kIo.
  Result<double> ShareInPageCache() const;

 private:
  StoredChunks(ScratchDirectory scratch, std::unique_ptr<storage::Database> database);
  std::vector<std::string> SegmentPaths() const;

  const ScratchDirectory scratch_;
  const std::unique_ptr<storage::Database> database_;
  int64_t num_added_ = 0;
};

}  // namespace intarsia::bench
