// BlobFiles: RocksDB with its values in blob files, as a baseline for the segments of KV caches.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::bench {

class BlobFiles {
 public:
  // In the new directory `path`; values are not compressed, and no block of them is cached.
  static Result<std::unique_ptr<BlobFiles>> Create(const std::string& path);
  ~BlobFiles();
  BlobFiles(const BlobFiles&) = delete;
  BlobFiles& operator=(const BlobFiles&) = delete;

  // Without a log, so that each value is written once; Flush makes it a blob.
  Status Put(std::string_view key, std::string_view value);
  Status Flush();
  // Reads a value and verifies its checksum; returns its size. It stays where RocksDB has put it.
  Result<int64_t> Read(std::string_view key);

 private:
  struct State;
  explicit BlobFiles(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::bench
