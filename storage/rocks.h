// Rocks: the RocksDB database below ours, in our words: sealed records, families, batches, cursors.
//
// RocksDB's own types end in rocks.cc and rocks_options.h. Every value goes in and out through
// storage/record.h; rows that exist for their key alone have an empty value.
//
// Thread safety: Rocks is thread-safe; a RowBatch and a RowCursor are owned by one thread.
// Lifetime: a Rocks outlives its batches, cursors and snapshots.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "storage/keys.h"

namespace rocksdb {
class Snapshot;
}

namespace intarsia::storage {

enum class WalRecovery : uint8_t {
  kStrict,       // An incomplete last record is dropped; damage before it is kCorruption.
  kPointInTime,  // What follows the first damage is dropped.
};

enum class Durability : uint8_t {
  kSync,    // Survives a power failure.
  kBuffer,  // Survives the end of the process.
};

struct RocksOptions {
  enum class Mode : uint8_t { kCreate, kOpen, kReadOnly };
  Mode mode = Mode::kOpen;
  WalRecovery wal_recovery = WalRecovery::kStrict;
  int64_t block_cache_bytes_max = int64_t{64} << 20;
};

// What every error about damaged rows ends with.
inline constexpr std::string_view kCheckRemedy = "; CHECK DATABASE says what can be done";

// A table file that cannot be read in full.
struct DamagedTable {
  std::string path;
  Family family = Family::kMeta;
  std::string problem;
};

class Rocks;

// Changes that become visible together.
class RowBatch {
 public:
  struct State;
  explicit RowBatch(const Rocks* rocks);
  ~RowBatch();
  RowBatch(const RowBatch&) = delete;
  RowBatch& operator=(const RowBatch&) = delete;

  void Put(Family family, std::string_view key, std::string_view body);
  void PutKey(Family family, std::string_view key);  // With an empty value.
  void Delete(Family family, std::string_view key);
  void DeleteRange(Family family, std::string_view begin, std::string_view end);
  int64_t num_bytes() const;

  State* state() { return state_.get(); }  // For Rocks.

 private:
  std::unique_ptr<State> state_;
};

// Walks the rows of a family in [begin, end).
//   for (RowCursor row = rocks.Scan(...); row.Valid(); row.Next()) ...; return row.status();
class RowCursor {
 public:
  struct State;
  explicit RowCursor(std::unique_ptr<State> state);
  ~RowCursor();
  RowCursor(RowCursor&&) noexcept;

  bool Valid() const;
  void Next();
  // To the first row at or behind `key`, which is not in front of the walk's beginning.
  void Seek(std::string_view key);
  std::string_view key() const;  // Valid until the next move.
  // The row's body, valid until the next move. Errors: kCorruption, kUnsupported.
  Result<std::string_view> Body() const;
  // Why the walk ended early, or OK.
  Status status() const;

 private:
  std::unique_ptr<State> state_;
};

class Rocks {
 public:
  struct State;
  explicit Rocks(std::unique_ptr<State> state);

  // Errors: kCorruption if a file is damaged or missing, kUnsupported for families that only a
  // newer program knows, kIo, kResourceExhausted.
  static Result<std::unique_ptr<Rocks>> Open(const std::string& path, const RocksOptions& options);
  ~Rocks();
  Rocks(const Rocks&) = delete;
  Rocks& operator=(const Rocks&) = delete;

  // The body of a record. A null snapshot reads the newest. Errors: kNotFound with the record's
  // name, kCorruption, kUnsupported, kIo.
  Result<std::string> Get(Family family, std::string_view key,
                          const rocksdb::Snapshot* snapshot) const;
  Result<bool> Exists(Family family, std::string_view key) const;
  RowCursor Scan(Family family, std::string_view begin, std::string_view end,
                 const rocksdb::Snapshot* snapshot) const;
  RowCursor ScanPrefix(Family family, const std::string& prefix,
                       const rocksdb::Snapshot* snapshot) const {
    return Scan(family, prefix, KeyAfterPrefix(prefix), snapshot);
  }

  // As Scan of the newest rows, for a long walk: what it reads is not kept in memory.
  RowCursor ScanOnce(Family family, std::string_view begin, std::string_view end) const;
  // How many rows there are, without those that were overwritten, as far as RocksDB knows.
  int64_t EstimatedRows(Family family) const;

  // Errors: kResourceExhausted if the disk is full, kIo; nothing is visible then, and the next
  // call tries anew.
  Status Write(RowBatch* batch, Durability durability);

  const rocksdb::Snapshot* TakeSnapshot() const;
  void ReleaseSnapshot(const rocksdb::Snapshot* snapshot) const;

  // Empties a family without reading it, for one that is damaged and can be built anew. Readers
  // find it empty from then on, those of older snapshots too.
  Status Recreate(Family family);

  // Reads every block of every table file. `on_file` is called with the files done and all files,
  // and ends the walk with its error.
  Result<std::vector<DamagedTable>> CheckTables(
      const std::function<Status(int64_t, int64_t)>& on_file) const;

  // Puts all rows as they are now into the new directory `path`, whose table files are second
  // names of this database's where the file system has links. Writers wait for a flush.
  // Errors: kResourceExhausted, kIo. REQUIRES: not read-only.
  Status Checkpoint(const std::string& path) const;

  // Rewrites all families without what was deleted; returns the bytes freed. Afterwards no log and
  // no table is left that nothing needs.
  Result<int64_t> Compact();

  // What a table file holds, as ScanTable saw it.
  struct TableScan {
    int64_t num_rows = 0;
    // Rows in the file that are covered by newer ones of the same file and that no visit saw.
    int64_t num_hidden = 0;
  };
  // Calls `visit` with the name of the family, the key and the stored value of each row in the file
  // `path` of this or another database, until it returns an error, which is returned.
  // Errors: kNotFound if the file is gone, kCorruption, kIo.
  using VisitTableRow =
      std::function<Status(std::string_view family, std::string_view key, std::string_view value)>;
  static Result<TableScan> ScanTable(const std::string& path, const VisitTableRow& visit);

  const State& state() const { return *state_; }  // For RowBatch.

 private:
  std::unique_ptr<State> state_;
};

}  // namespace intarsia::storage
