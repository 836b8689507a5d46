// DirectoryLock: makes one process the writer of a database directory.
//
// The lock is the operating system's, on the file LOCK, so it ends with the process that holds it;
// what stands in the file only says who that is.
//
// Thread safety: owned by one thread.
// Format: docs/formats/directory.md
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::storage {

class DirectoryLock {
 public:
  // Takes the lock of `directory`, which exists, for `program`.
  // Errors: kUnavailable with the holder's pid and program if it is taken, kIo,
  // kResourceExhausted.
  static Result<std::unique_ptr<DirectoryLock>> Acquire(const std::string& directory,
                                                        std::string_view program);
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  const int descriptor_;
};

}  // namespace intarsia::storage
