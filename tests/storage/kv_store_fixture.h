// KvStoreFixture: a database with a model and a collection, whose segments stand on a faulty disk.
//
// Thread safety: owned by one thread, but for store().
#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/storage/faulty_file_system.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {

inline constexpr int64_t kLayerBytes = 10'000;  // Takes 12,288 on disk.
inline constexpr int64_t kNumLayers = 3;
inline constexpr int64_t kCacheDiskBytes = kNumLayers * 12'288;

class KvStoreFixture : public testing::Test {
 protected:
  KvStoreFixture() { Open(); }

  void Open() {
    database_.reset();
    options_.file_system = &file_system_;
    database_ = OpenDatabase(directory_ / "kb", options_);
    if (docs_ != 0) return;
    model_ = Must(database_->CreateModel(SampleModel("qa", ModelType::kGenerate)));
    docs_ = Must(database_->CreateCollection(SampleCollection("docs")));
  }
  KvStore* store() { return database_->kv(); }

  // Adds a document of one chunk.
  KvOwner AddOwner(const std::string& source) {
    const StoredDocument stored =
        PutOne(database_.get(), docs_, SampleDocument(source, "text", 0)).front();
    return {
        .collection = docs_, .document = stored.id, .chunk = stored.first_chunk, .model = model_};
  }
  static std::unique_ptr<SampleCache> MakeCache(const std::string& name) {
    return std::make_unique<SampleCache>(name, kNumLayers, kLayerBytes);
  }
  std::vector<std::string> SegmentFiles() {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "kb/kv")) {
      paths.push_back(entry.path().string());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  int64_t DiskBytes() {
    int64_t sum = 0;
    for (const std::string& path : SegmentFiles()) {
      sum += static_cast<int64_t>(std::filesystem::file_size(path));
    }
    return sum;
  }

  const TemporaryDirectory directory_;
  FaultyFileSystem file_system_;
  DatabaseOptions options_;
  std::unique_ptr<Database> database_;
  ModelId model_ = 0;
  CollectionId docs_ = 0;
};

}  // namespace intarsia::storage
