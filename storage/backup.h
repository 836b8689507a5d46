// Backup: copies of a database while it is in use, their check, and their way back.
//
// A backup is a directory of its own that shares no file with the database. With an earlier backup
// as its base, files that are the same bytes become second names of the base's, so that it takes
// the time of reading and the space of what is new; it is whole without its base all the same.
//   1. What a backup or a restored database lacks to be whole stands in its directory as a file
//      "*.unfinished", and the file that makes it whole is written last.
//   2. Nothing is overwritten: a target is absent, empty, or what an attempt left unfinished.
//   3. Every byte is checked when it is copied back.
//
// Thread safety: all functions may be called concurrently, for distinct targets.
// Format: docs/formats/backup.md
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/cancel.h"
#include "base/file.h"
#include "base/result.h"
#include "storage/backup_manifest.h"

namespace intarsia::storage {

struct DatabaseCore;

struct BackupOptions {
  FileSystem* file_system = FileSystem::Local();
  std::string base;                     // an earlier backup, or empty
  const CancelToken* cancel = nullptr;  // may be null
  // Called with the bytes that are done and all bytes; may be empty.
  std::function<void(int64_t, int64_t)> on_progress;
};

struct BackupReport {
  int64_t num_files = 0;
  int64_t num_bytes = 0;
  int64_t num_shared_bytes = 0;  // of files that the base has
  uint64_t commit = 0;           // the last one that the backup holds
  int64_t created = 0;           // seconds since 1970, UTC
};

// Backs up an open database into the directory `target`. Writers wait for the moment of a flush,
// readers not at all. See Database::BackUp.
Result<BackupReport> BackUpDatabase(DatabaseCore* core, const std::string& target,
                                    const BackupOptions& options);

// Reads every byte of a backup.
// Errors: kNotFound if there is no backup or an unfinished one; kCorruption with the file's name;
// kUnsupported if a newer program wrote it; kCancelled; kIo.
Result<BackupReport> CheckBackup(const std::string& directory, const BackupOptions& options);

// Makes a database of a backup in the directory `target`, checking every byte on the way. The
// database keeps its uuid. Errors: as CheckBackup; kAlreadyExists if `target` holds something;
// kResourceExhausted if the disk is full.
Result<BackupReport> RestoreBackup(const std::string& directory, const std::string& target,
                                   const BackupOptions& options);

// Removes what a backup that was killed left in the directory of an open database.
void RemoveBackupLeftovers(const std::string& database_path);

}  // namespace intarsia::storage
