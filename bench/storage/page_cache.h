// Page cache: what the system keeps of files, dropped and looked at, and a directory for a run.
//
// Thread safety: the functions may be called concurrently; a ScratchDirectory is owned by one
// thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace intarsia::bench {

// A new directory for temporary files, which goes with the object.
class ScratchDirectory {
 public:
  // Below `parent`, or where the system has its temporary files if that is empty. Errors: kIo.
  static Result<ScratchDirectory> Create(const std::string& parent);
  ~ScratchDirectory();
  ScratchDirectory(ScratchDirectory&& other) noexcept;
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path);

  std::string path_;  // empty: moved from
};

// The regular files in a directory and below it, sorted.
std::vector<std::string> FilesBelow(const std::string& directory);

// Writes the files out and asks the system to forget their pages. Files that are gone are passed
// over. Errors: kIo.
Status DropFromPageCache(const std::vector<std::string>& files);

// The share of the files' pages that lies in the page cache, in [0, 1]. On a file system in memory
// everything stays. Errors: kIo.
Result<double> ShareInPageCache(const std::vector<std::string>& files);

}  // namespace intarsia::bench
