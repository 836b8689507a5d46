#include "storage/directory_lock.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace intarsia::storage {
namespace {

Status LockError(const std::string& doing, const std::string& path) {
  const int error = errno;
  const bool is_full = error == ENOSPC || error == EDQUOT;
  std::string hint;
  if (error == EACCES || error == EPERM || error == EROFS) hint = "; open it read-only instead";
  return Status(is_full ? StatusCode::kResourceExhausted : StatusCode::kIo,
                "cannot " + doing + " " + path + ": " +
                    std::error_code(error, std::generic_category()).message() + hint);
}

// The holder as LOCK says it, for example "pid 4121 (intarsiad)".
std::string HolderOf(int descriptor) {
  char text[256];
  const ssize_t size = ::pread(descriptor, text, sizeof(text), 0);
  std::string_view line(text, size > 0 ? static_cast<size_t>(size) : 0);
  line = line.substr(0, line.find('\n'));
  // Between taking the lock and writing the file, a holder has no name yet.
  if (line.substr(0, 4) != "pid ") return "another process";
  std::string holder;
  for (const char c : line) holder += c >= ' ' && c <= '~' ? c : '?';
  return holder;
}

}  // namespace

Result<std::unique_ptr<DirectoryLock>> DirectoryLock::Acquire(const std::string& directory,
                                                              std::string_view program) {
  const std::string path = directory + "/LOCK";
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return LockError("open", path);
  auto lock = std::make_unique<DirectoryLock>(descriptor);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return LockError("lock", path);
    return Status(StatusCode::kUnavailable,
                  directory + " is open by " + HolderOf(descriptor) +
                      "; use it there, wait until it is closed, or open it read-only");
  }
  std::string text = "pid " + std::to_string(::getpid()) + " (";
  text.append(program.substr(0, 64)).append(")\n");
  if (::ftruncate(descriptor, 0) != 0 ||
      ::pwrite(descriptor, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return LockError("write", path);
  }
  return lock;
}

DirectoryLock::~DirectoryLock() { ::close(descriptor_); }

}  // namespace intarsia::storage
