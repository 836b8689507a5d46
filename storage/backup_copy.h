// BackupCopier: moves files into a backup and out of one, piece by piece, with checksums.
//
// Thread safety: owned by one thread.
// Lifetime: the options must outlive it.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "storage/backup.h"

namespace intarsia::storage {

class BackupCopier {
 public:
  BackupCopier(const BackupOptions& options, int64_t num_bytes_total)
      : options_(options), num_bytes_total_(num_bytes_total) {}

  // Copies the first `num_bytes` of `source` into the new file `target`, syncs it, and returns it
  // under `name`. Errors: kCorruption if the source is shorter, kResourceExhausted, kCancelled,
  // kIo.
  Result<BackupFile> Copy(const RandomAccessFile& source, int64_t num_bytes,
                          const std::string& name, const std::string& target);

  // As Copy, of a file that must be `wanted`. Errors: also kCorruption with `path` if it is not.
  Status CopyChecked(const std::string& path, const BackupFile& wanted, const std::string& target);

  // Reads the file at `path`, which must be `wanted`. Errors: as CopyChecked.
  Status Verify(const std::string& path, const BackupFile& wanted);

  // Whether the first `num_bytes` of `source` are the bytes of `wanted`.
  Result<bool> IsSame(const RandomAccessFile& source, int64_t num_bytes, const BackupFile& wanted);

  // Counts bytes that need not be read.
  void Skip(int64_t num_bytes);

 private:
  // Calls take(piece) for the pieces of `source`. Errors: the source's, kCancelled, take's.
  template <typename Take>
  Status ForEachPiece(const RandomAccessFile& source, int64_t num_bytes, const Take& take);
  Status ForEachChecked(const std::string& path, const BackupFile& wanted, AppendFile* target);

  const BackupOptions& options_;
  const int64_t num_bytes_total_;
  int64_t num_bytes_done_ = 0;
};

}  // namespace intarsia::storage
