#include "storage/backup.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/log.h"
#include "storage/backup_copy.h"
#include "storage/database_core.h"
#include "storage/directory_format.h"
#include "storage/rocks.h"

namespace intarsia::storage {
namespace {

constexpr std::string_view kRows = "rocksdb";
constexpr std::string_view kSegments = "kv";

// What a directory is being made into: the file that says it is not whole, and the one that makes
// it whole.
struct Purpose {
  std::string_view marker;
  std::string_view whole;
};
constexpr Purpose kBackupPurpose = {.marker = "BACKUP.unfinished", .whole = "BACKUP"};
constexpr Purpose kRestorePurpose = {.marker = "RESTORE.unfinished", .whole = "FORMAT"};

// Where the rows of the moment of a backup lie, as links beside the database's own.
std::string MomentPath(const std::string& database_path) { return database_path + "/backup.tmp"; }

void RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) Log(LogLevel::kWarning, "cannot remove " + path + ": " + error.message());
}

// An absolute path without links and dots, as far as it exists.
std::string Canonical(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

bool IsWithin(const std::string& path, const std::string& folder) {
  const std::string inner = Canonical(path) + "/";
  return inner.starts_with(Canonical(folder) + "/");
}

// A directory that is being filled. Goes again unless it was finished.
class Target {
 public:
  // Takes a directory that is absent, empty or what an attempt of the same purpose left unfinished.
  // Errors: kAlreadyExists, kInvalidArgument for a file, kIo, kResourceExhausted.
  static Result<std::unique_ptr<Target>> Begin(FileSystem* file_system, const std::string& path,
                                               const Purpose& purpose) {
    auto target = std::unique_ptr<Target>(new Target(file_system, path, purpose));
    target->was_there_ = file_system->Exists(path);
    if (target->was_there_) {
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, file_system->List(path));
      const auto has = [&](std::string_view name) {
        return std::ranges::find(entries, name, &DirectoryEntry::name) != entries.end();
      };
      // A kill right behind the last step leaves the marker beside what is whole.
      const bool is_left_over = has(purpose.marker) && !has(purpose.whole);
      if (!entries.empty() && !is_left_over) {
        return Status(StatusCode::kAlreadyExists, "the directory is not empty; choose another: " +
                                                      path + " holds=" + entries[0].name);
      }
      if (is_left_over) target->RemoveContent();
    }
    INTARSIA_RETURN_IF_ERROR(file_system->CreateDirectories(path));
    target->is_begun_ = true;
    INTARSIA_RETURN_IF_ERROR(
        file_system->WriteAtomically(target->PathOf(purpose.marker), "unfinished\n"));
    for (const std::string_view folder : {kRows, kSegments}) {
      INTARSIA_RETURN_IF_ERROR(file_system->CreateDirectories(target->PathOf(folder)));
    }
    return target;
  }

  ~Target() {
    if (!is_begun_) return;
    RemoveContent();
    if (was_there_) return;
    std::error_code ignored;  // It stays if somebody else put something there.
    std::filesystem::remove(path_, ignored);
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  std::string PathOf(std::string_view name) const { return path_ + "/" + std::string(name); }

  // Writes the file that makes the directory whole, when all else has reached the disk.
  Status Finish(std::string_view bytes) {
    for (const std::string_view folder : {kRows, kSegments}) {
      INTARSIA_RETURN_IF_ERROR(file_system_->SyncDirectory(PathOf(folder)));
    }
    INTARSIA_RETURN_IF_ERROR(file_system_->WriteAtomically(PathOf(purpose_.whole), bytes));
    is_begun_ = false;
    // The directory is whole now; a marker that stays says nothing any more.
    file_system_->Remove(PathOf(purpose_.marker)).IgnoreError();
    return Status::Ok();
  }

 private:
  Target(FileSystem* file_system, std::string path, const Purpose& purpose)
      : file_system_(file_system), path_(std::move(path)), purpose_(purpose) {}

  void RemoveContent() {
    RemoveTree(PathOf(kRows));
    RemoveTree(PathOf(kSegments));
    file_system_->Remove(PathOf(purpose_.marker)).IgnoreError();  // It may not be there yet.
  }

  FileSystem* const file_system_;
  const std::string path_;
  const Purpose purpose_;
  bool was_there_ = false;
  bool is_begun_ = false;
};

// A file of the database at the moment of the backup. It stays readable when it is removed.
struct Source {
  std::string name;
  std::unique_ptr<RandomAccessFile> file;
  int64_t num_bytes = 0;
};

// Opens the files of a folder as `prefix`/name. Files that go meanwhile are passed over.
Status OpenSources(FileSystem* file_system, const std::string& folder, std::string_view prefix,
                   std::vector<Source>* sources) {
  if (!file_system->Exists(folder)) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, file_system->List(folder));
  for (const DirectoryEntry& entry : entries) {
    const std::string name = std::string(prefix) + "/" + entry.name;
    if (entry.is_directory || !IsBackupName(name)) continue;  // not one of ours
    auto file = file_system->OpenForReading(folder + "/" + entry.name);
    if (!file.ok() && file.status().code() == StatusCode::kNotFound) continue;
    INTARSIA_RETURN_IF_ERROR(file.status());
    INTARSIA_ASSIGN_OR_RETURN(const int64_t num_bytes, (*file)->Size());
    sources->push_back({.name = name, .file = *std::move(file), .num_bytes = num_bytes});
  }
  return Status::Ok();
}

// The links at the moment of a backup go when it is done.
class Moment {
 public:
  explicit Moment(std::string path) : path_(std::move(path)) { RemoveTree(path_); }
  ~Moment() { RemoveTree(path_); }
  Moment(const Moment&) = delete;
  Moment& operator=(const Moment&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

// Puts one file into the backup: as a second name of the base's if it is the same, else as a copy.
Result<BackupFile> Place(const Source& source, const BackupManifest* base,
                         const BackupOptions& options, const Target& target, BackupCopier* copier,
                         int64_t* num_shared_bytes) {
  const BackupFile* const same = base == nullptr ? nullptr : base->Find(source.name);
  if (same != nullptr) {
    INTARSIA_ASSIGN_OR_RETURN(const bool is_same,
                              copier->IsSame(*source.file, source.num_bytes, *same));
    const std::string path = options.base + "/" + source.name;
    // The base may have been damaged since; its file is then copied anew.
    BackupOptions silent = options;
    silent.on_progress = nullptr;
    if (is_same && BackupCopier(silent, 0).Verify(path, *same).ok() &&
        options.file_system->Link(path, target.PathOf(source.name)).ok()) {
      copier->Skip(source.num_bytes);
      *num_shared_bytes += source.num_bytes;
      return *same;
    }
  }
  return copier->Copy(*source.file, source.num_bytes, source.name, target.PathOf(source.name));
}

BackupReport ReportOf(const BackupManifest& manifest) {
  return {.num_files = std::ssize(manifest.files),
          .num_bytes = manifest.num_bytes(),
          .num_shared_bytes = 0,
          .commit = manifest.commit,
          .created = manifest.created};
}

}  // namespace

void RemoveBackupLeftovers(const std::string& database_path) {
  RemoveTree(MomentPath(database_path));
}

Result<BackupReport> BackUpDatabase(DatabaseCore* core, const std::string& target_path,
                                    const BackupOptions& options) {
  if (core->is_read_only()) {
    return Status(StatusCode::kUnsupported,
                  "only the process that writes to a database can back it up: " + core->path);
  }
  if (target_path.empty() || IsWithin(target_path, core->path)) {
    return Status(StatusCode::kInvalidArgument,
                  "a backup needs a directory of its own, outside of the database: " + target_path);
  }
  BackupManifest base;
  if (!options.base.empty()) {
    INTARSIA_ASSIGN_OR_RETURN(base, ReadBackupManifest(options.file_system, options.base));
    if (base.format.uuid != core->format.uuid) {
      return Status(StatusCode::kInvalidArgument,
                    "the base is a backup of another database: " + options.base);
    }
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<Target> target,
                            Target::Begin(options.file_system, target_path, kBackupPurpose));
  const Moment moment(MomentPath(core->path));
  BackupManifest manifest = {.format = core->format, .commit = 0, .created = 0, .files = {}};
  {
    const std::lock_guard<std::mutex> commit(core->commit_mutex);
    manifest.commit = core->last_commit;
    INTARSIA_RETURN_IF_ERROR(core->rocks->Checkpoint(moment.path()));
  }
  // A cache is written before the row that names it, so the files as they are now hold all caches
  // of that moment, but for those that eviction removes first.
  std::vector<Source> sources;
  INTARSIA_RETURN_IF_ERROR(OpenSources(
      options.file_system, core->path + "/" + std::string(kSegments), kSegments, &sources));
  INTARSIA_RETURN_IF_ERROR(OpenSources(options.file_system, moment.path(), kRows, &sources));
  std::ranges::sort(sources, {}, &Source::name);

  manifest.created = std::chrono::duration_cast<std::chrono::seconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
  int64_t num_bytes = 0;
  for (const Source& source : sources) num_bytes += source.num_bytes;
  int64_t num_shared_bytes = 0;
  BackupCopier copier(options, num_bytes);
  for (Source& source : sources) {
    INTARSIA_ASSIGN_OR_RETURN(BackupFile file, Place(source, options.base.empty() ? nullptr : &base,
                                                     options, *target, &copier, &num_shared_bytes));
    manifest.files.push_back(std::move(file));
    source.file.reset();
  }
  INTARSIA_RETURN_IF_ERROR(target->Finish(EncodeBackupManifest(manifest)));
  BackupReport report = ReportOf(manifest);
  report.num_shared_bytes = num_shared_bytes;
  return report;
}

Result<BackupReport> CheckBackup(const std::string& directory, const BackupOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(const BackupManifest manifest,
                            ReadBackupManifest(options.file_system, directory));
  BackupCopier copier(options, manifest.num_bytes());
  for (const BackupFile& file : manifest.files) {
    INTARSIA_RETURN_IF_ERROR(copier.Verify(directory + "/" + file.name, file));
  }
  return ReportOf(manifest);
}

Result<BackupReport> RestoreBackup(const std::string& directory, const std::string& target_path,
                                   const BackupOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(const BackupManifest manifest,
                            ReadBackupManifest(options.file_system, directory));
  if (target_path.empty() || IsWithin(target_path, directory)) {
    return Status(StatusCode::kInvalidArgument,
                  "a database needs a directory outside of the backup: " + target_path);
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<Target> target,
                            Target::Begin(options.file_system, target_path, kRestorePurpose));
  BackupCopier copier(options, manifest.num_bytes());
  for (const BackupFile& file : manifest.files) {
    INTARSIA_RETURN_IF_ERROR(
        copier.CopyChecked(directory + "/" + file.name, file, target->PathOf(file.name)));
  }
  INTARSIA_RETURN_IF_ERROR(target->Finish(EncodeDirectoryFormat(manifest.format)));
  return ReportOf(manifest);
}

}  // namespace intarsia::storage
