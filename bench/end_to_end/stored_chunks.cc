#include "bench/end_to_end/stored_chunks.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

namespace intarsia::bench {
namespace {

Status SystemError(const std::string& what, const std::string& path) {
  return Status(StatusCode::kIo,
                what + ": path=" + path + " error=" + std::generic_category().message(errno));
}

// A cache in the store, pinned while it is in use.
class StoredKv : public engine::KvSource {
 public:
  StoredKv(storage::KvStore* store, storage::KvHandle handle)
      : store_(store), handle_(std::move(handle)) {}

  engine::KvPayloadType type() const override {
    return static_cast<engine::KvPayloadType>(handle_.shape().quantizer);
  }
  int64_t num_tokens() const override { return handle_.shape().num_tokens; }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    return store_->ReadLayer(handle_, layer, target);
  }
  void Prefetch(int32_t layer) const override { store_->Prefetch(handle_, layer); }

 private:
  storage::KvStore* const store_;
  const storage::KvHandle handle_;
};

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

Result<std::unique_ptr<StoredChunks>> StoredChunks::Create() {
  std::string path = (std::filesystem::temp_directory_path() / "intarsia-bench-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) return SystemError("no temporary directory", path);
  auto database = storage::Database::Open(path + "/kb", {});
  if (!database.ok()) {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
    return database.status();
  }
  return std::unique_ptr<StoredChunks>(new StoredChunks(path, *std::move(database)));
}

StoredChunks::StoredChunks(std::string path, std::unique_ptr<storage::Database> database)
    : path_(std::move(path)), database_(std::move(database)) {}

StoredChunks::~StoredChunks() {
  database_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<std::unique_ptr<engine::KvSource>> StoredChunks::Add(const engine::MemoryKv& kv) {
  std::vector<std::string_view> layers;
  for (const std::vector<uint8_t>& layer : kv.layers()) {
    layers.emplace_back(reinterpret_cast<const char*>(layer.data()), layer.size());
  }
  const Digest identity = DigestOf("chunk " + std::to_string(num_added_++));
  storage::KvStore* const store = database_->kv();
  INTARSIA_ASSIGN_OR_RETURN(const storage::KvPutOutcome outcome,
                            store->Put({.identity = identity,
                                        .shape = {.num_layers = std::ssize(layers),
                                                  .num_tokens = kv.num_tokens(),
                                                  .quantizer = static_cast<uint32_t>(kv.type())},
                                        .layers = layers,
                                        .owner = {},
                                        .generation = store->generation()}));
  if (outcome != storage::KvPutOutcome::kStored) {
    return Status(StatusCode::kResourceExhausted, "the store did not take a KV cache");
  }
  INTARSIA_ASSIGN_OR_RETURN(storage::KvHandle handle, store->Find(identity));
  return std::unique_ptr<engine::KvSource>(new StoredKv(store, std::move(handle)));
}

std::vector<std::string> StoredChunks::SegmentPaths() const {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path_ + "/kb/kv", ignored)) {
    if (entry.is_regular_file(ignored)) paths.push_back(entry.path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

Status StoredChunks::DropFromPageCache() {
  for (const std::string& path : SegmentPaths()) {
    const Descriptor file(path);
    // Pages that are not on the disk yet cannot be forgotten.
    if (file.value() < 0 || ::fdatasync(file.value()) != 0) {
      return SystemError("cannot write out a segment", path);
    }
    errno = ::posix_fadvise(file.value(), 0, 0, POSIX_FADV_DONTNEED);
    if (errno != 0) return SystemError("cannot drop a segment from the page cache", path);
  }
  return Status::Ok();
}

Result<double> StoredChunks::ShareInPageCache() const {
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  int64_t num_pages = 0;
  int64_t num_resident = 0;
  for (const std::string& path : SegmentPaths()) {
    const Descriptor file(path);
    struct stat facts = {};
    if (file.value() < 0 || ::fstat(file.value(), &facts) != 0) {
      return SystemError("cannot look at a segment", path);
    }
    if (facts.st_size == 0) continue;
    const auto size = static_cast<size_t>(facts.st_size);
    void* const mapping = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.value(), 0);
    if (mapping == MAP_FAILED) return SystemError("cannot map a segment", path);
    std::vector<unsigned char> residency((size + page_bytes - 1) / page_bytes);
    const int failed = ::mincore(mapping, size, residency.data());
    ::munmap(mapping, size);
    if (failed != 0) return SystemError("cannot ask for a segment's pages", path);
    num_pages += std::ssize(residency);
    num_resident += std::ranges::count_if(residency, [](unsigned char page) { return page & 1; });
  }
  return num_pages == 0 ? 0.0 : static_cast<double>(num_resident) / static_cast<double>(num_pages);
}

}  // namespace intarsia::bench
