// TemporaryFolder: an empty folder for one test, removed with all that is in it.
//
// Thread safety: immutable after construction.
#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/check.h"

namespace intarsia {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(testing::TempDir() + "intarsia-XXXXXX") {
    INTARSIA_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // Somebody else may have cleaned up already.
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace intarsia
