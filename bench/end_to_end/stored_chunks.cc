#include "bench/end_to_end/stored_chunks.h"

#include <utility>

#include "base/hash.h"
#include "engine/stored_kv.h"

namespace intarsia::bench {

Result<std::unique_ptr<StoredChunks>> StoredChunks::Create() {
  INTARSIA_ASSIGN_OR_RETURN(ScratchDirectory scratch, ScratchDirectory::Create(""));
  INTARSIA_ASSIGN_OR_RETURN(auto database, storage::Database::Open(scratch.path() + "/kb", {}));
  return std::unique_ptr<StoredChunks>(new StoredChunks(std::move(scratch), std::move(database)));
}

StoredChunks::StoredChunks(ScratchDirectory scratch, std::unique_ptr<storage::Database> database)
    : scratch_(std::move(scratch)), database_(std::move(database)) {}

Result<std::unique_ptr<engine::KvSource>> StoredChunks::Add(const engine::MemoryKv& kv) {
  const Digest identity = DigestOf("chunk " + std::to_string(num_added_++));
  storage::KvStore* const store = database_->kv();
  INTARSIA_ASSIGN_OR_RETURN(
      const storage::KvPutOutcome outcome,
      engine::PutKv(store, kv,
                    {.identity = identity, .owner = {}, .generation = store->generation()}));
  if (outcome != storage::KvPutOutcome::kStored) {
    return Status(StatusCode::kResourceExhausted, "the store did not take a KV cache");
  }
  INTARSIA_ASSIGN_OR_RETURN(storage::KvHandle handle, store->Find(identity));
  return std::unique_ptr<engine::KvSource>(new engine::StoredKv(store, std::move(handle)));
}

std::vector<std::string> StoredChunks::SegmentPaths() const {
  return FilesBelow(scratch_.path() + "/kb/kv");
}

Status StoredChunks::DropFromPageCache() { return bench::DropFromPageCache(SegmentPaths()); }

Result<double> StoredChunks::ShareInPageCache() const {
  return bench::ShareInPageCache(SegmentPaths());
}

}  // namespace intarsia::bench
