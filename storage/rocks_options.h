// RocksOptions as RocksDB takes them, and what RocksDB tells us while it works.
//
// One place for every choice about the database below: formats, compression, recovery, logs.
//
// Thread safety: the functions may be called concurrently; FailureListener is thread-safe.
#pragma once

#include <atomic>
#include <memory>

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>

#include "storage/keys.h"
#include "storage/rocks.h"

namespace intarsia::storage {

// Keeps RocksDB from waiting by itself until a full disk has room: Rocks::Write tries again when
// there is something to write, and says so if it cannot. Takes note of logs that could not be
// written.
class FailureListener : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status /*error*/,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason,
                         rocksdb::Status* /*error*/) override {
    if (reason == rocksdb::BackgroundErrorReason::kWriteCallback) has_log_failed_.store(true);
  }
  // Whether the log has failed since the last call.
  bool TakeLogFailure() { return has_log_failed_.exchange(false); }

 private:
  std::atomic<bool> has_log_failed_{false};
};

// Passes RocksDB's errors on to our log and drops the rest, instead of files in the directory.
std::shared_ptr<rocksdb::Logger> MakeErrorLog();

// Of a family's rows. `cache` may be null: RocksDB makes a small one then.
rocksdb::ColumnFamilyOptions FamilyOptionsOf(Family family,
                                             const std::shared_ptr<rocksdb::Cache>& cache);

// Without a listener.
rocksdb::DBOptions DatabaseOptionsOf(const RocksOptions& options);

}  // namespace intarsia::storage
