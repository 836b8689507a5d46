#include "bench/storage/page_cache.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace intarsia::bench {
namespace {

Status SystemError(const std::string& what, const std::string& path) {
  return Status(StatusCode::kIo,
                what + ": path=" + path + " error=" + std::generic_category().message(errno));
}

// A file that closes with its owner.
class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : value_(::open(path.c_str(), O_RDONLY)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  const int value_;
};

}  // namespace

ScratchDirectory::ScratchDirectory(std::string path) : path_(std::move(path)) {}
ScratchDirectory::ScratchDirectory(ScratchDirectory&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

ScratchDirectory::~ScratchDirectory() {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<ScratchDirectory> ScratchDirectory::Create(const std::string& parent) {
  const std::filesystem::path folder =
      parent.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(parent);
  std::string path = (folder / "intarsia-bench-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) return SystemError("no temporary directory", path);
  return ScratchDirectory(std::move(path));
}

std::vector<std::string> FilesBelow(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, ignored)) {
    if (entry.is_regular_file(ignored)) paths.push_back(entry.path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

Status DropFromPageCache(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    const Descriptor file(path);
    // A compaction beside this may have removed it since it was listed.
    if (file.value() < 0 && errno == ENOENT) continue;
    // Pages that are not on the disk yet cannot be forgotten.
    if (file.value() < 0 || ::fdatasync(file.value()) != 0) {
      return SystemError("cannot write out a file", path);
    }
    errno = ::posix_fadvise(file.value(), 0, 0, POSIX_FADV_DONTNEED);
    if (errno != 0) return SystemError("cannot drop a file from the page cache", path);
  }
  return Status::Ok();
}

Result<double> ShareInPageCache(const std::vector<std::string>& files) {
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  int64_t num_pages = 0;
  int64_t num_resident = 0;
  for (const std::string& path : files) {
    const Descriptor file(path);
    struct stat facts = {};
    if (file.value() < 0 || ::fstat(file.value(), &facts) != 0) {
      return SystemError("cannot look at a file", path);
    }
    if (facts.st_size == 0) continue;
    const auto size = static_cast<size_t>(facts.st_size);
    void* const mapping = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.value(), 0);
    if (mapping == MAP_FAILED) return SystemError("cannot map a file", path);
    std::vector<unsigned char> residency((size + page_bytes - 1) / page_bytes);
    const int failed = ::mincore(mapping, size, residency.data());
    ::munmap(mapping, size);
    if (failed != 0) return SystemError("cannot ask for a file's pages", path);
    num_pages += std::ssize(residency);
    num_resident += std::ranges::count_if(residency, [](unsigned char page) { return page & 1; });
  }
  return num_pages == 0 ? 0.0 : static_cast<double>(num_resident) / static_cast<double>(num_pages);
}

}  // namespace intarsia::bench
