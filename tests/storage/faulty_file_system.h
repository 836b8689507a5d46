// FaultyFileSystem: this machine's files, until the bytes that may still be written are used up.
//
// From then on every append writes what fits and fails as a full disk does, until more is granted.
// Renaming and syncing folders can be made to fail, too.
//
// Thread safety: thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace intarsia::storage {

class FaultyFileSystem : public FileSystem {
 public:
  // How many bytes may be appended from now on, over all files.
  void Grant(int64_t num_bytes) { num_bytes_left_.store(num_bytes); }
  // How many files may be renamed from now on.
  void GrantRenames(int64_t num_renames) { num_renames_left_.store(num_renames); }
  // How many folders may be synced from now on.
  void GrantFolderSyncs(int64_t num_syncs) { num_folder_syncs_left_.store(num_syncs); }
  void GrantAll() { Grant(std::numeric_limits<int64_t>::max()); }

  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override {
    return local_->OpenForReading(path);
  }
  Result<std::unique_ptr<AppendFile>> OpenForAppending(const std::string& path) override {
    INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> file, local_->OpenForAppending(path));
    return std::make_unique<FaultyAppendFile>(std::move(file), &num_bytes_left_);
  }
  Result<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    return local_->Map(path);
  }
  Result<std::string> ReadAll(const std::string& path, int64_t num_bytes_max) override {
    return local_->ReadAll(path, num_bytes_max);
  }
  Status WriteAtomically(const std::string& path, std::string_view bytes) override {
    return local_->WriteAtomically(path, bytes);
  }
  Status CreateDirectories(const std::string& path) override {
    return local_->CreateDirectories(path);
  }
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    return local_->List(path);
  }
  Status Remove(const std::string& path) override { return local_->Remove(path); }
  Status Rename(const std::string& from, const std::string& to) override {
    if (num_renames_left_.fetch_sub(1) <= 0) {
      return Status(StatusCode::kIo, "cannot rename " + from + ": Input/output error");
    }
    return local_->Rename(from, to);
  }
  Status SyncDirectory(const std::string& path) override {
    if (num_folder_syncs_left_.fetch_sub(1) <= 0) {
      return Status(StatusCode::kIo, "cannot sync " + path + ": Input/output error");
    }
    return local_->SyncDirectory(path);
  }
  bool Exists(const std::string& path) override { return local_->Exists(path); }

 private:
  class FaultyAppendFile : public AppendFile {
   public:
    FaultyAppendFile(std::unique_ptr<AppendFile> file, std::atomic<int64_t>* num_bytes_left)
        : file_(std::move(file)), num_bytes_left_(num_bytes_left) {}

    Status Append(std::string_view bytes) override {
      const auto wanted = static_cast<int64_t>(bytes.size());
      const int64_t granted = std::min(wanted, num_bytes_left_->load());
      *num_bytes_left_ -= granted;
      INTARSIA_RETURN_IF_ERROR(file_->Append(bytes.substr(0, static_cast<size_t>(granted))));
      if (granted == wanted) return Status::Ok();
      return Status(StatusCode::kResourceExhausted, "no space left on device");
    }
    Status Sync() override { return file_->Sync(); }
    int64_t size() const override { return file_->size(); }

   private:
    std::unique_ptr<AppendFile> file_;
    std::atomic<int64_t>* num_bytes_left_;
  };

  FileSystem* const local_ = FileSystem::Local();
  std::atomic<int64_t> num_bytes_left_{std::numeric_limits<int64_t>::max()};
  std::atomic<int64_t> num_renames_left_{std::numeric_limits<int64_t>::max()};
  std::atomic<int64_t> num_folder_syncs_left_{std::numeric_limits<int64_t>::max()};
};

}  // namespace intarsia::storage
