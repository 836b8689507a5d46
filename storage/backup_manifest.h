// BackupManifest: the file BACKUP, which says what a backup holds and that it is whole.
//
// It is written last, when everything else has reached the disk: a directory without it is no
// backup. There is no file FORMAT, so that nobody opens a backup and changes it.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/backup.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/result.h"
#include "storage/directory_format.h"

namespace intarsia::storage {

inline constexpr uint32_t kBackupVersion = 1;
// A file is checked in pieces of this size, the last of which may be shorter.
inline constexpr int64_t kBackupPieceBytes = int64_t{4} << 20;

struct BackupFile {
  std::string name;  // "rocksdb/..." or "kv/..."
  int64_t num_bytes = 0;
  std::vector<Checksum> pieces;  // [ceil(num_bytes / kBackupPieceBytes)]

  bool operator==(const BackupFile&) const = default;
};

struct BackupManifest {
  DirectoryFormat format;         // of the database
  uint64_t commit = 0;            // the last one that it holds
  int64_t created = 0;            // seconds since 1970, UTC
  std::vector<BackupFile> files;  // by name, each once

  bool operator==(const BackupManifest&) const = default;
  int64_t num_bytes() const;
  // Null if there is no such file.
  const BackupFile* Find(std::string_view name) const;
};

// Whether a backup may hold a file of that name: a plain one in one of our folders, which therefore
// stays in the directory.
bool IsBackupName(std::string_view name);

std::string EncodeBackupManifest(const BackupManifest& manifest);

// Errors: kCorruption, also for a name that would leave the directory; kUnsupported if a newer
// program wrote it. `path` is for the message.
Result<BackupManifest> DecodeBackupManifest(const std::string& path, std::string_view bytes);

// The manifest of the backup in `directory`.
// Errors: kNotFound if there is no backup, or one that was interrupted; those of Decode; kIo.
Result<BackupManifest> ReadBackupManifest(FileSystem* file_system, const std::string& directory);

}  // namespace intarsia::storage
