// TemporaryDirectory: an empty directory for one test, removed at its end.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "base/check.h"

namespace intarsia::storage {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    // In memory where that is possible: a test ends processes, not the power, and syncs are slow.
    const std::filesystem::path memory = "/dev/shm";
    std::string pattern =
        (std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path()) /
        "intarsia-test-XXXXXX";
    INTARSIA_CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  // A path below the directory.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Inverts one bit of a file.
inline void FlipBit(const std::string& path, int64_t bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(bit / 8);
  const auto byte = static_cast<char>(file.get() ^ (1 << (bit % 8)));
  file.seekp(bit / 8);
  file.put(byte);
}

}  // namespace intarsia::storage
