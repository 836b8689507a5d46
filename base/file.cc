#include "base/file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace intarsia {
namespace {

Status ErrnoStatus(int error, const std::string& operation, const std::string& path) {
  StatusCode code = StatusCode::kIo;
  if (error == ENOENT) code = StatusCode::kNotFound;
  if (error == ENOSPC || error == EDQUOT || error == ENOMEM) code = StatusCode::kResourceExhausted;
  if (error == EISDIR || error == ENOTDIR) code = StatusCode::kInvalidArgument;
  return Status(code, "cannot " + operation + " " + path + ": " +
                          std::error_code(error, std::generic_category()).message());
}

// Closes a descriptor at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

Result<Descriptor> OpenDescriptor(const std::string& path, int flags) {
  // Not blocking, so that a pipe without a writer is refused below instead of being waited for.
  const int value = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0644);
  if (value < 0) return ErrnoStatus(errno, "open", path);
  return Descriptor(value);
}

// What a write to a file changes.
struct FileStamp {
  int64_t size = 0;
  int64_t seconds = 0;  // of the last change of its content
  int64_t nanoseconds = 0;
  bool operator==(const FileStamp&) const = default;
};

Result<FileStamp> StampOf(const Descriptor& descriptor, const std::string& path) {
  struct stat info {};
  if (::fstat(descriptor.get(), &info) != 0) return ErrnoStatus(errno, "inspect", path);
  if (!S_ISREG(info.st_mode)) {
    return Status(StatusCode::kInvalidArgument, "not a regular file: " + path);
  }
  return FileStamp{
      .size = info.st_size, .seconds = info.st_mtim.tv_sec, .nanoseconds = info.st_mtim.tv_nsec};
}

Result<int64_t> SizeOf(const Descriptor& descriptor, const std::string& path) {
  INTARSIA_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(descriptor, path));
  return stamp.size;
}

Status WriteFully(const Descriptor& descriptor, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, "write", path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return Status::Ok();
}

class PosixRandomAccessFile : public RandomAccessFile {
 public:
  PosixRandomAccessFile(Descriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}

  Status ReadAt(int64_t offset, int64_t num_bytes, void* target) const override {
    if (offset < 0 || num_bytes < 0) {
      return Status(StatusCode::kInvalidArgument, "negative range: " + path_ +
                                                      " offset=" + std::to_string(offset) +
                                                      " num_bytes=" + std::to_string(num_bytes));
    }
    auto* bytes = static_cast<char*>(target);
    while (num_bytes > 0) {
      const ssize_t num_read =
          ::pread(descriptor_.get(), bytes, static_cast<size_t>(num_bytes), offset);
      if (num_read < 0 && errno == EINTR) continue;
      if (num_read < 0) return ErrnoStatus(errno, "read", path_);
      if (num_read == 0) {
        return Status(StatusCode::kCorruption, "file ends too early: " + path_ +
                                                   " offset=" + std::to_string(offset) +
                                                   " missing=" + std::to_string(num_bytes));
      }
      offset += num_read;
      num_bytes -= num_read;
      bytes += num_read;
    }
    return Status::Ok();
  }

  Result<int64_t> Size() const override { return SizeOf(descriptor_, path_); }

 private:
  const Descriptor descriptor_;
  const std::string path_;
};

class PosixDirectFile : public DirectFile {
 public:
  // `mapping` is of the whole file and is never read from: it is how the page cache is asked.
  PosixDirectFile(Descriptor descriptor, char* mapping, int64_t num_bytes)
      : descriptor_(std::move(descriptor)), mapping_(mapping), num_bytes_(num_bytes) {}
  ~PosixDirectFile() override { ::munmap(mapping_, static_cast<size_t>(num_bytes_)); }
  PosixDirectFile(const PosixDirectFile&) = delete;
  PosixDirectFile& operator=(const PosixDirectFile&) = delete;

  int descriptor() const override { return descriptor_.get(); }

  bool IsCached(int64_t offset, int64_t num_bytes) const override {
    return IsPageCached(offset) && IsPageCached(offset + num_bytes - 1);
  }

 private:
  // What lies behind the mapping was appended since, and so is in the cache most likely.
  bool IsPageCached(int64_t offset) const {
    if (offset >= num_bytes_) return true;
    const int64_t page_bytes = ::sysconf(_SC_PAGESIZE);
    unsigned char state = 0;
    return ::mincore(mapping_ + offset / page_bytes * page_bytes, 1, &state) != 0 ||
           (state & 1) != 0;
  }

  const Descriptor descriptor_;
  char* const mapping_;
  const int64_t num_bytes_;
};

class PosixAppendFile : public AppendFile {
 public:
  PosixAppendFile(Descriptor descriptor, std::string path, int64_t size)
      : descriptor_(std::move(descriptor)), path_(std::move(path)), size_(size) {}

  Status Append(std::string_view bytes) override {
    INTARSIA_RETURN_IF_ERROR(WriteFully(descriptor_, bytes, path_));
    size_ += static_cast<int64_t>(bytes.size());
    return Status::Ok();
  }

  Status Sync() override {
    if (::fdatasync(descriptor_.get()) != 0) return ErrnoStatus(errno, "sync", path_);
    return Status::Ok();
  }

  int64_t size() const override { return size_; }

 private:
  const Descriptor descriptor_;
  const std::string path_;
  int64_t size_;
};

class PosixMappedFile : public MappedFile {
 public:
  PosixMappedFile(Descriptor descriptor, std::string path, const FileStamp& stamp,
                  std::string_view bytes)
      : descriptor_(std::move(descriptor)), path_(std::move(path)), stamp_(stamp), bytes_(bytes) {}
  ~PosixMappedFile() override {
    if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
  }
  PosixMappedFile(const PosixMappedFile&) = delete;
  PosixMappedFile& operator=(const PosixMappedFile&) = delete;

  std::string_view bytes() const override { return bytes_; }
  Status CheckUnchanged() const override {
    INTARSIA_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(descriptor_, path_));
    if (stamp == stamp_) return Status::Ok();
    return Status(StatusCode::kCorruption, "file was written to while it was in use: " + path_ +
                                               " size=" + std::to_string(stamp.size) +
                                               " size_before=" + std::to_string(stamp_.size));
  }

 private:
  const Descriptor descriptor_;
  const std::string path_;
  const FileStamp stamp_;
  const std::string_view bytes_;
};

class PosixFileSystem : public FileSystem {
 public:
  Result<std::unique_ptr<RandomAccessFile>> OpenForReading(const std::string& path) override {
    INTARSIA_ASSIGN_OR_RETURN(Descriptor descriptor, OpenDescriptor(path, O_RDONLY));
    INTARSIA_RETURN_IF_ERROR(SizeOf(descriptor, path).status());
    return std::make_unique<PosixRandomAccessFile>(std::move(descriptor), path);
  }

  std::unique_ptr<DirectFile> OpenDirect(const std::string& path) override {
    Result<Descriptor> descriptor = OpenDescriptor(path, O_RDONLY | O_DIRECT);
    if (!descriptor.ok()) return nullptr;
    const Result<int64_t> size = SizeOf(*descriptor, path);
    if (!size.ok() || *size == 0) return nullptr;
    void* const mapping =
        ::mmap(nullptr, static_cast<size_t>(*size), PROT_NONE, MAP_SHARED, descriptor->get(), 0);
    if (mapping == MAP_FAILED) return nullptr;
    return std::make_unique<PosixDirectFile>(*std::move(descriptor), static_cast<char*>(mapping),
                                             *size);
  }

  Result<std::unique_ptr<AppendFile>> OpenForAppending(const std::string& path) override {
    INTARSIA_ASSIGN_OR_RETURN(Descriptor descriptor,
                              OpenDescriptor(path, O_WRONLY | O_CREAT | O_APPEND));
    INTARSIA_ASSIGN_OR_RETURN(const int64_t size, SizeOf(descriptor, path));
    return std::make_unique<PosixAppendFile>(std::move(descriptor), path, size);
  }

  Result<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    INTARSIA_ASSIGN_OR_RETURN(Descriptor descriptor, OpenDescriptor(path, O_RDONLY));
    INTARSIA_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(descriptor, path));
    std::string_view bytes;
    if (stamp.size > 0) {
      const auto size = static_cast<size_t>(stamp.size);
      void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
      if (address == MAP_FAILED) return ErrnoStatus(errno, "map", path);
      bytes = std::string_view(static_cast<const char*>(address), size);
    }
    return std::make_unique<PosixMappedFile>(std::move(descriptor), path, stamp, bytes);
  }

  Result<std::string> ReadAll(const std::string& path, int64_t num_bytes_max) override {
    INTARSIA_ASSIGN_OR_RETURN(const Descriptor descriptor, OpenDescriptor(path, O_RDONLY));
    INTARSIA_ASSIGN_OR_RETURN(const int64_t size, SizeOf(descriptor, path));
    if (size > num_bytes_max) {
      return Status(StatusCode::kInvalidArgument, "file is larger than the limit: " + path +
                                                      " size=" + std::to_string(size) +
                                                      " limit=" + std::to_string(num_bytes_max));
    }
    // Reads to the end instead of trusting the size: the file may grow or shrink meanwhile.
    std::string bytes;
    char buffer[1 << 16];
    for (;;) {
      const ssize_t num_read = ::read(descriptor.get(), buffer, sizeof(buffer));
      if (num_read < 0 && errno == EINTR) continue;
      if (num_read < 0) return ErrnoStatus(errno, "read", path);
      if (num_read == 0) return bytes;
      bytes.append(buffer, static_cast<size_t>(num_read));
      if (static_cast<int64_t>(bytes.size()) > num_bytes_max) {
        return Status(StatusCode::kInvalidArgument,
                      "file grew past the limit while it was read: " + path);
      }
    }
  }

  Status WriteAtomically(const std::string& path, std::string_view bytes) override {
    // The name is fixed, so that what a crash leaves behind is overwritten by the next call; hence
    // one writer at a time.
    const std::scoped_lock lock(write_mutex_);
    const std::string temporary = path + ".new";
    Status status = WriteAndSync(temporary, bytes);
    if (status.ok()) status = Rename(temporary, path);
    if (!status.ok()) {
      ::unlink(temporary.c_str());  // What failed before is the error to tell.
      return status;
    }
    const std::string parent = std::filesystem::path(path).parent_path().string();
    return SyncDirectory(parent.empty() ? "." : parent);
  }

  Status CreateDirectories(const std::string& path) override {
    std::error_code error;
    std::vector<std::filesystem::path> missing;
    for (std::filesystem::path level = path;
         !level.empty() && !std::filesystem::exists(level, error); level = level.parent_path()) {
      missing.push_back(level);
    }
    std::filesystem::create_directories(path, error);
    if (error) return ErrnoStatus(error.value(), "create", path);
    for (const std::filesystem::path& level : missing) {
      const std::string parent = level.parent_path().string();
      // A folder that may be written but not read cannot be synced, and is used all the same.
      SyncDirectory(parent.empty() ? "." : parent).IgnoreError();
    }
    return Status::Ok();
  }

  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    std::error_code error;
    std::vector<DirectoryEntry> entries;
    for (std::filesystem::directory_iterator it(path, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;  // An entry that vanishes meanwhile counts as empty.
      const bool is_link = it->is_symlink(ignored);
      const bool is_directory = it->is_directory(ignored);
      const auto size = is_directory ? 0 : it->file_size(ignored);
      entries.push_back({.name = it->path().filename().string(),
                         .is_directory = is_directory,
                         .is_link = is_link,
                         .num_bytes = ignored ? 0 : static_cast<int64_t>(size)});
    }
    if (error) return ErrnoStatus(error.value(), "list", path);
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
  }

  Status Remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return ErrnoStatus(errno, "remove", path);
    return Status::Ok();
  }

  bool Exists(const std::string& path) override {
    std::error_code error;
    return std::filesystem::exists(path, error);
  }

  Status Link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return Status::Ok();
    if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP) {
      return Status(StatusCode::kUnsupported, "no links here: " + to);
    }
    if (errno == EEXIST) return Status(StatusCode::kAlreadyExists, "the file exists: " + to);
    return ErrnoStatus(errno, "link", from);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return ErrnoStatus(errno, "rename", from);
    return Status::Ok();
  }

  Status SyncDirectory(const std::string& path) override {
    INTARSIA_ASSIGN_OR_RETURN(const Descriptor folder, OpenDescriptor(path, O_RDONLY));
    if (::fsync(folder.get()) != 0) return ErrnoStatus(errno, "sync", path);
    return Status::Ok();
  }

 private:
  static Status WriteAndSync(const std::string& path, std::string_view bytes) {
    INTARSIA_ASSIGN_OR_RETURN(const Descriptor descriptor,
                              OpenDescriptor(path, O_WRONLY | O_CREAT | O_TRUNC));
    INTARSIA_RETURN_IF_ERROR(WriteFully(descriptor, bytes, path));
    if (::fsync(descriptor.get()) != 0) return ErrnoStatus(errno, "sync", path);
    return Status::Ok();
  }

  std::mutex write_mutex_;
};

}  // namespace

std::unique_ptr<DirectFile> FileSystem::OpenDirect(const std::string& /*path*/) { return nullptr; }

Status FileSystem::Link(const std::string& /*from*/, const std::string& to) {
  return Status(StatusCode::kUnsupported, "no links here: " + to);
}

Status FileSystem::Rename(const std::string& from, const std::string& /*to*/) {
  return Status(StatusCode::kUnsupported, "no renaming here: " + from);
}

Status FileSystem::SyncDirectory(const std::string& /*path*/) { return Status::Ok(); }

FileSystem* FileSystem::Local() {
  static PosixFileSystem file_system;
  return &file_system;
}

}  // namespace intarsia
