// CommitMark: remembers, beside RocksDB, the number of the last commit that was acknowledged.
//
// RocksDB cannot tell a log whose end was never written from one whose end was damaged: both lose
// the last commits in silence. The mark is written after each commit and not synced, so it is never
// ahead of what the disk promised, and a database that comes back behind it has lost data.
//
// Thread safety: owned by one thread at a time.
// Format: docs/formats/directory.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::storage {

// The file's bytes. `uuid` ties them to their database.
std::string EncodeCommitMark(std::string_view uuid, uint64_t sequence);

class CommitMark {
 public:
  // The number in the file at `path`; 0 if it is absent, damaged or of another database, because
  // the mark is a second witness and not the truth. Errors: kIo.
  static Result<uint64_t> Read(const std::string& path, std::string_view uuid);

  // Opens the file for writing, creating it if absent. Errors: kIo, kResourceExhausted.
  static Result<std::unique_ptr<CommitMark>> Open(const std::string& path, std::string_view uuid);
  CommitMark(int descriptor, std::string path, std::string uuid)
      : descriptor_(descriptor), path_(std::move(path)), uuid_(std::move(uuid)) {}
  ~CommitMark();
  CommitMark(const CommitMark&) = delete;
  CommitMark& operator=(const CommitMark&) = delete;

  // Notes that commit `sequence` is acknowledged. Does not wait for the disk.
  // Errors: kIo, kResourceExhausted.
  Status Write(uint64_t sequence);

 private:
  const int descriptor_;
  const std::string path_;
  const std::string uuid_;
};

}  // namespace intarsia::storage
