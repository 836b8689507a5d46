// FaultyDisk: the files of this program below one folder, on a disk that fails and loses its power.
//
// It stands between the program and the system: the calls that write, sync and read are defined
// here, so RocksDB, segment files, COMMITS and FORMAT all pass through, and the product knows
// nothing of it. To be included by one source of a test program, in which they then hold for
// everything.
//
// What survives a lost power is what was synced. Of the rest any part may be there or not: names
// that were given or taken away since their directory was synced, and pages that were written since
// their file was. All chance comes from the seed.
//
// Thread safety: Begin is called before threads are started; all else is thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>

#include <dlfcn.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace intarsia::storage {

struct DiskFaults {
  uint64_t seed = 1;
  // Calls that change a file or sync one, from Begin on, until the power goes; < 0: it stays.
  // The process then ends with kPowerLost, and what survived lies beside the folder, see Begin.
  int64_t calls_until_cut = -1;
  // Of a thousand calls that change or sync a file, how many fail, and with which error.
  int failures_per_thousand = 0;
  int error = EIO;
  // Of a thousand reads, how many fail with EIO.
  int read_failures_per_thousand = 0;
  // Reads and writes move at most so many bytes at once; 0: all.
  int64_t transfer_bytes_max = 0;
  // A sync takes up to so long.
  int64_t sync_us_max = 0;
};

class FaultyDisk {
 public:
  static constexpr int kPowerLost = 55;

  // Inode numbers must not come again, and those of a tmpfs do not.
  static bool IsPossible(const std::string& folder) {
    struct statfs info {};
    return ::statfs(folder.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
  }

  // From here on faults befall the files below `folder`, all of which has been synced. What
  // survives a lost power is put into the new folder `survivors`.
  static void Begin(const std::string& folder, const std::string& survivors,
                    const DiskFaults& faults) {
    FaultyDisk& disk = Instance();
    const std::lock_guard<std::mutex> lock(disk.mutex_);
    disk.folder_ = std::filesystem::canonical(folder).string();
    disk.survivors_ = survivors;
    disk.faults_ = faults;
    disk.random_.seed(faults.seed);
    disk.KeepTree(disk.folder_);
    disk.is_on_.store(true);
  }
  // All is well again.
  static void End() { Instance().is_on_.store(false); }

  static FaultyDisk& Instance() {
    static FaultyDisk disk;
    return disk;
  }

  // For the calls below. Each is 0 or the error that the call ends with.
  int BeforeChange(int descriptor) {
    return IsOurs(descriptor) ? Step(faults_.failures_per_thousand, faults_.error) : 0;
  }
  int BeforeChange(const char* path) {
    return IsOn() && std::string_view(path).starts_with(folder_) ? Step(0, 0) : 0;
  }
  int BeforeRead(int descriptor) {
    if (!IsOn() || faults_.read_failures_per_thousand == 0 || !IsOurs(descriptor)) return 0;
    const std::lock_guard<std::mutex> lock(mutex_);
    return Happens(faults_.read_failures_per_thousand) ? EIO : 0;
  }
  size_t Transfer(int descriptor, size_t num_bytes) const {
    if (faults_.transfer_bytes_max == 0 || !IsOurs(descriptor)) return num_bytes;
    return std::min(num_bytes, static_cast<size_t>(faults_.transfer_bytes_max));
  }
  // What is in the file or directory now survives.
  int Sync(int descriptor) {
    const std::string path = PathOf(descriptor);
    if (path.empty()) return 0;
    if (const int error = Step(faults_.failures_per_thousand, faults_.error); error != 0) {
      return error;
    }
    int64_t microseconds = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      Keep(path);
      if (faults_.sync_us_max > 0) {
        microseconds = static_cast<int64_t>(random_() % static_cast<uint64_t>(faults_.sync_us_max));
      }
    }
    if (microseconds > 0) ::usleep(static_cast<useconds_t>(microseconds));
    return 0;
  }

 private:
  using Names = std::map<std::string, ino_t>;

  static std::string ReadBytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static ino_t InodeOf(const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  }
  static Names NamesIn(const std::string& path) {
    Names names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      if (const ino_t inode = InodeOf(entry.path()); inode != 0) {
        names[entry.path().filename()] = inode;
      }
    }
    return names;
  }

  // Whether the calls of this thread pass through untouched.
  static bool& IsExempt() {
    static thread_local bool is_exempt = false;
    return is_exempt;
  }
  bool IsOn() const { return is_on_.load() && !IsExempt(); }

  // The path of a descriptor if it is below the folder, else empty.
  std::string PathOf(int descriptor) const {
    if (!IsOn()) return {};
    char path[4096];
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    const ssize_t size = ::readlink(link.c_str(), path, sizeof(path));
    if (size <= 0) return {};
    const std::string found(path, static_cast<size_t>(size));
    return found.starts_with(folder_) ? found : "";
  }
  bool IsOurs(int descriptor) const { return !PathOf(descriptor).empty(); }

  bool Happens(int per_thousand) { return static_cast<int>(random_() % 1'000) < per_thousand; }
  int Step(int failures_per_thousand, int error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (faults_.calls_until_cut >= 0 && num_calls_++ >= faults_.calls_until_cut) LosePower();
    return failures_per_thousand > 0 && Happens(failures_per_thousand) ? error : 0;
  }

  void Keep(const std::string& path) {
    const ino_t inode = InodeOf(path);
    if (inode == 0) return;  // Removed while it was open: no name leads to it.
    if (std::filesystem::is_directory(path)) {
      kept_names_[inode] = NamesIn(path);
    } else {
      kept_bytes_[inode] = ReadBytes(path);
    }
  }
  void KeepTree(const std::string& path) {
    Keep(path);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      Keep(entry.path());
    }
  }

  // Puts what survives into survivors_ and ends the process. Whoever else changes or syncs a file
  // meanwhile waits for mutex_, which is held to the end.
  [[noreturn]] void LosePower() {
    IsExempt() = true;
    PutDirectory(InodeOf(folder_), folder_, survivors_);
    ::_exit(kPowerLost);
  }

  // `live` is where the inode lies now, or empty if it has no name any more.
  void PutDirectory(ino_t inode, const std::string& live, const std::string& target) {
    std::filesystem::create_directories(target);
    const auto kept = kept_names_.find(inode);
    const Names before = kept == kept_names_.end() ? Names() : kept->second;
    const Names now = live.empty() ? before : NamesIn(live);
    std::set<std::string> names;
    for (const auto& [name, unused] : before) names.insert(name);
    for (const auto& [name, unused] : now) names.insert(name);
    for (const std::string& name : names) {
      const auto was = before.find(name);
      const auto is = now.find(name);
      const ino_t old_inode = was == before.end() ? 0 : was->second;
      const ino_t new_inode = is == now.end() ? 0 : is->second;
      const bool takes_new = old_inode == new_inode || random_() % 2 == 0;
      const ino_t chosen = takes_new ? new_inode : old_inode;
      if (chosen == 0) continue;
      Put(chosen, chosen == new_inode ? live + "/" + name : "", target + "/" + name);
    }
  }
  void Put(ino_t inode, const std::string& live, const std::string& target) {
    std::error_code error;
    const bool is_directory =
        live.empty() ? kept_names_.contains(inode) : std::filesystem::is_directory(live, error);
    if (is_directory) return PutDirectory(inode, live, target);
    const auto found = kept_bytes_.find(inode);
    const std::string kept = found == kept_bytes_.end() ? "" : found->second;
    const std::string bytes = live.empty() ? kept : Torn(kept, ReadBytes(live));
    std::ofstream(target, std::ios::binary) << bytes;
  }
  // Of what was written since the last sync some pages have reached the disk, and some of the
  // growth: bytes that did not are zeros.
  std::string Torn(const std::string& kept, const std::string& now) {
    constexpr size_t kPageBytes = 4'096;
    if (kept == now) return kept;
    const size_t shorter = std::min(kept.size(), now.size());
    const size_t span = std::max(kept.size(), now.size()) - shorter;
    const size_t size = shorter + (span == 0 ? 0 : random_() % (span + 1));
    std::string bytes = kept;
    bytes.resize(size);
    for (size_t at = 0; at < size; at += kPageBytes) {
      const size_t end = std::min({at + kPageBytes, size, now.size()});
      if (at < end && random_() % 2 == 0) std::memcpy(&bytes[at], &now[at], end - at);
    }
    return bytes;
  }

  // Immutable after Begin.
  std::string folder_;
  std::string survivors_;
  DiskFaults faults_;

  std::atomic<bool> is_on_{false};
  std::mutex mutex_;
  // Guarded by mutex_.
  std::mt19937_64 random_;
  int64_t num_calls_ = 0;
  std::map<ino_t, std::string> kept_bytes_;
  std::map<ino_t, Names> kept_names_;
};

// The system's own function behind one of those below.
template <typename Function>
Function* SystemCall(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// Sets errno and says so, if there is an error.
inline bool Fails(int error) {
  if (error != 0) errno = error;
  return error != 0;
}

inline FaultyDisk& Disk() { return FaultyDisk::Instance(); }

}  // namespace intarsia::storage

// NOLINTBEGIN(misc-definitions-in-headers): one source of a program includes this.
extern "C" {

ssize_t write(int descriptor, const void* bytes, size_t size) {
  static auto* const call = intarsia::storage::SystemCall<decltype(write)>("write");
  if (intarsia::storage::Fails(intarsia::storage::Disk().BeforeChange(descriptor))) return -1;
  return call(descriptor, bytes, intarsia::storage::Disk().Transfer(descriptor, size));
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  static auto* const call = intarsia::storage::SystemCall<decltype(pwrite)>("pwrite");
  if (intarsia::storage::Fails(intarsia::storage::Disk().BeforeChange(descriptor))) return -1;
  return call(descriptor, bytes, size, offset);
}

ssize_t pread(int descriptor, void* bytes, size_t size, off_t offset) {
  static auto* const call = intarsia::storage::SystemCall<decltype(pread)>("pread");
  if (intarsia::storage::Fails(intarsia::storage::Disk().BeforeRead(descriptor))) return -1;
  return call(descriptor, bytes, intarsia::storage::Disk().Transfer(descriptor, size), offset);
}

int fsync(int descriptor) {
  static auto* const call = intarsia::storage::SystemCall<decltype(fsync)>("fsync");
  if (intarsia::storage::Fails(intarsia::storage::Disk().Sync(descriptor))) return -1;
  return call(descriptor);
}

int fdatasync(int descriptor) { return fsync(descriptor); }

int rename(const char* from, const char* to) noexcept {
  static auto* const call = intarsia::storage::SystemCall<int(const char*, const char*)>("rename");
  if (intarsia::storage::Fails(intarsia::storage::Disk().BeforeChange(to))) return -1;
  return call(from, to);
}

int unlink(const char* path) noexcept {
  static auto* const call = intarsia::storage::SystemCall<int(const char*)>("unlink");
  if (intarsia::storage::Fails(intarsia::storage::Disk().BeforeChange(path))) return -1;
  return call(path);
}

}  // extern "C"
// NOLINTEND(misc-definitions-in-headers)
