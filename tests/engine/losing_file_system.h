// LosingFileSystem: this machine's files, some of which vanish or fail between listing and reading.
//
// Thread safety: owned by one thread, but for reading.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"

namespace intarsia::engine {

class LosingFileSystem : public FileSystem {
 public:
  // ReadAll of this path says that it is not there.
  void Lose(const std::string& path) { lost_.insert(path); }
  // ReadAll of this path says that the disk cannot be read.
  void Damage(const std::string& path) { damaged_.insert(path); }

  Result<std::string> ReadAll(const std::string& path, int64_t num_bytes_max) override {
    if (lost_.contains(path)) {
      return Status(StatusCode::kNotFound, "cannot open " + path + ": No such file or directory");
    }
    if (damaged_.contains(path)) {
      return Status(StatusCode::kIo, "cannot read " + path + ": Input/output error");
    }
    return local_->ReadAll(path, num_bytes_max);
  }
  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override {
    return local_->OpenForReading(path);
  }
  Result<std::unique_ptr<AppendFile>> OpenForAppending(const std::string& path) override {
    return local_->OpenForAppending(path);
  }
  Result<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    return local_->Map(path);
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
  bool Exists(const std::string& path) override { return local_->Exists(path); }

 private:
  FileSystem* const local_ = FileSystem::Local();
  std::set<std::string> lost_;
  std::set<std::string> damaged_;
};

}  // namespace intarsia::engine
