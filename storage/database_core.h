// DatabaseCore: what a Database holds, shared with its ReadViews and its commits.
//
// Thread safety: as said at each member.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "storage/commit_mark.h"
#include "storage/database.h"
#include "storage/directory_format.h"
#include "storage/directory_lock.h"
#include "storage/record_codec.h"
#include "storage/rocks.h"

namespace intarsia::storage {

struct DatabaseCore {
  // Immutable after Open.
  std::string path;
  DatabaseOptions options;
  DirectoryFormat format;
  // Destroyed last to first: nobody else may write before RocksDB is closed.
  std::unique_ptr<DirectoryLock> lock;  // Null if read-only.
  std::unique_ptr<Rocks> rocks;         // Thread-safe.

  std::mutex backup_mutex;  // Held by the one backup that runs.
  // Held while RocksDB is written, so that a commit may read, decide and write.
  std::mutex commit_mutex;
  // Guarded by commit_mutex.
  std::unique_ptr<CommitMark> mark;  // Null if read-only.
  NextIds next_ids;
  uint64_t last_commit = 0;

  std::unique_ptr<KvStore> kv;  // Thread-safe.
  mutable std::atomic<int64_t> num_views{0};

  bool is_read_only() const { return options.access == AccessMode::kReadOnly; }
};

}  // namespace intarsia::storage
