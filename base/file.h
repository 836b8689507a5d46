// FileSystem: files as the storage and model layers see them, and the seam where tests put faults.
//
// Thread safety: thread-safe, but for AppendFile, which is owned by one thread.
// Lifetime: a file may outlive the FileSystem that opened it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace intarsia {

class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;

  // Reads exactly `num_bytes` at `offset` into `target`.
  // Errors: kCorruption if the file ends before, kIo.
  virtual Status ReadAt(int64_t offset, int64_t num_bytes, void* target) const = 0;
  virtual Result<int64_t> Size() const = 0;
};

// A file for reads past the page cache, by an AsyncReader (base/async_reader.h).
class DirectFile {
 public:
  virtual ~DirectFile() = default;
  virtual int descriptor() const = 0;
  // Whether both ends of these bytes lie in the page cache, where they are read without the disk.
  // REQUIRES: num_bytes > 0 and the bytes lie in the file.
  virtual bool IsCached(int64_t offset, int64_t num_bytes) const = 0;
};

class AppendFile {
 public:
  virtual ~AppendFile() = default;

  // Writes all of `bytes` behind what is there. After an error the tail is unspecified.
  // Errors: kResourceExhausted if the disk is full, kIo.
  virtual Status Append(std::string_view bytes) = 0;
  // Makes what was appended survive a power failure. Blocks on the disk.
  virtual Status Sync() = 0;
  virtual int64_t size() const = 0;
};

// A read-only view of a whole file. A file that is truncated while it is mapped ends the process on
// access (SIGBUS); map only files that nobody is expected to shorten, and ask before each use.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual std::string_view bytes() const = 0;
  // OK if the file has the size and the time of change that it had when it was mapped, so that
  // bytes() are still the ones that were read then. A file that took its name does not matter.
  // Errors: kCorruption if it was written to or cut off, kIo.
  virtual Status CheckUnchanged() const = 0;
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;  // Or a symbolic link to one.
  bool is_link = false;       // A symbolic link.
  int64_t num_bytes = 0;      // 0 for a directory.
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // The file system of this machine. Lives as long as the program.
  static FileSystem* Local();

  // Errors of all: kNotFound if the path does not exist, kInvalidArgument if it is of the wrong
  // kind, kResourceExhausted if the disk is full, kIo with the system's message.
  virtual Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) = 0;
  // Null where a file cannot be read past the page cache, as on a file system in memory. By default
  // none can, so that whoever stands for another file system sees all reads.
  virtual std::unique_ptr<DirectFile> OpenDirect(const std::string& path);
  // Creates the file if absent and appends to it otherwise.
  virtual Result<std::unique_ptr<AppendFile>> OpenForAppending(const std::string& path) = 0;
  virtual Result<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;
  // kInvalidArgument if the file is larger than `num_bytes_max`.
  virtual Result<std::string> ReadAll(const std::string& path, int64_t num_bytes_max) = 0;
  // Readers see the old content or the new one, also after a crash.
  virtual Status WriteAtomically(const std::string& path, std::string_view bytes) = 0;

  virtual Status CreateDirectories(const std::string& path) = 0;
  // Sorted by name.
  virtual Result<std::vector<DirectoryEntry>> List(const std::string& path) = 0;
  virtual Status Remove(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;

  // Gives the file `from` a second name. Errors: also kAlreadyExists, and kUnsupported where there
  // are no links between the two places, which is what a file system without links says.
  virtual Status Link(const std::string& from, const std::string& to);
  // Gives the file `from` the name `to`, and with it the place of what has that name. Errors: also
  // kUnsupported, which is what a file system says that knows whole writes only.
  virtual Status Rename(const std::string& from, const std::string& to);
  // Makes the names in a directory survive a power failure; nothing to do by default.
  virtual Status SyncDirectory(const std::string& path);
};

}  // namespace intarsia
