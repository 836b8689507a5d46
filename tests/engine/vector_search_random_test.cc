// Random documents come, go, are replaced and get other vectors, the database is opened again and
// again, a device fails now and then, and every way to search vectors is compared with comparing
// all of them.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/log.h"
#include "engine/collection_index.h"
#include "storage/database.h"
#include "tests/engine/fake_devices.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kDim = 32;
constexpr int64_t kHits = 10;

class VectorSearchRandomTest : public testing::TestWithParam<uint32_t> {
 protected:
  VectorSearchRandomTest() : random_(GetParam()) {
    SetLogLevel(LogLevel::kError);
    device_codes_.SetBytesMax(int64_t{1} << 30);
    std::normal_distribution<float> normal;
    for (float& value : centers_) value = normal(random_);
    OpenDatabase();
    storage::ModelInfo model;
    model.name = "e";
    model.type = storage::ModelType::kEmbedding;
    model_ = *database_->CreateModel(model);
    collection_.name = "docs";
    collection_.id = *database_->CreateCollection(collection_);
  }

  void OpenDatabase() {
    index_.reset();
    files_.reset();
    database_.reset();
    auto opened = storage::Database::Open(folder_ / "kb", {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    database_ = *std::move(opened);
    files_ = std::make_unique<VectorFiles>(database_.get(), FileSystem::Local());
    index_ = std::make_unique<CollectionIndex>(
        VectorIndexOptions{
            .flat_max = 100, .sampled_max = 128, .page_rows = 16, .file_rows_min = 48},
        files_.get());
  }

  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }

  // Near one of a few centres, so that there are neighbours and others.
  std::vector<float> RandomVector() {
    std::normal_distribution<float> normal(0.0F, 0.5F);
    std::vector<float> vector;
    const int64_t center = Below(kCenters);
    for (int64_t d = 0; d < kDim; ++d) {
      vector.push_back(centers_[static_cast<size_t>(center * kDim + d)] + normal(random_));
    }
    return vector;
  }

  // Adds or replaces documents in one commit.
  void Put(int64_t count) {
    std::vector<storage::NewDocument> documents;
    std::set<std::string> sources;
    while (std::ssize(documents) < count) {
      const std::string source = "d" + std::to_string(Below(400));
      if (!sources.insert(source).second) continue;
      storage::NewDocument& document = documents.emplace_back();
      document.source = source;
      document.chunker = "none";
      document.text = "text " + std::to_string(random_());
      for (int64_t i = Below(6); i > 0; --i) {
        storage::NewChunk& chunk = document.chunks.emplace_back();
        chunk.byte_end = std::ssize(document.text);
        chunk.vectors.push_back({.model = model_, .values = RandomVector()});
      }
    }
    const auto stored = database_->PutDocuments(collection_.id, documents);
    ASSERT_TRUE(stored.ok()) << stored.status();
    for (size_t i = 0; i < documents.size(); ++i) {
      Forget(documents[i].source);
      Known& known = known_[documents[i].source];
      known.document = (*stored)[i].id;
      for (size_t j = 0; j < documents[i].chunks.size(); ++j) {
        known.chunks.push_back((*stored)[i].first_chunk + j);
        truth_[known.chunks.back()] = documents[i].chunks[j].vectors.front().values;
      }
    }
  }
  void Forget(const std::string& source) {
    for (const storage::ChunkId chunk : known_[source].chunks) truth_.erase(chunk);
    known_.erase(source);
  }
  void Delete(int64_t count) {
    std::vector<storage::DocumentId> ids;
    for (; count > 0 && !known_.empty(); --count) {
      auto it = known_.begin();
      std::advance(it, Below(std::ssize(known_)));
      ids.push_back(it->second.document);
      Forget(std::string(it->first));
    }
    ASSERT_TRUE(database_->DeleteDocuments(ids).ok());
  }
  void ReplaceVectors() {
    std::vector<storage::Database::ChunkVector> rows;
    for (auto& [chunk, vector] : truth_) {
      if (Below(20) != 0) continue;
      vector = RandomVector();
      rows.push_back({.chunk = chunk, .values = vector});
    }
    ASSERT_TRUE(database_->PutVectors(collection_.id, model_, rows).ok());
  }

  void Refresh() {
    const storage::ReadView view = database_->Read();
    const std::vector<storage::ChunkId> known =
        index_->rows.is_built() ? std::vector<storage::ChunkId>()
                                : index_->vectors.FindKnownChunks(view, collection_.id);
    ASSERT_TRUE(index_->rows.Refresh(view, collection_, known).ok());
    const Status status = index_->vectors.Refresh(database_.get(), view, collection_.id, model_,
                                                  index_->rows, nullptr);
    ASSERT_TRUE(status.ok()) << status;
  }

  // What comparing all vectors finds among `passing`.
  std::vector<index::SearchHit> Exact(std::span<const float> query,
                                      const std::set<storage::ChunkId>& passing) {
    auto flat = *index::FlatIndex::Create({.dim = kDim});
    for (const storage::ChunkId chunk : passing) {
      EXPECT_TRUE(flat->Add({&chunk, 1}, truth_.at(chunk)).ok());
    }
    return *flat->Search({.query = query, .k = kHits});
  }

  // What fails is searched on the CPU, and tried again some searches later.
  void FailNowAndThen() {
    FakeDeviceState& state = devices_.state();
    state.extend = state.scan = Status::Ok();
    const Status failure(StatusCode::kResourceExhausted, "no memory");
    if (Below(30) == 0) state.extend = failure;
    if (Below(30) == 0) state.scan = failure;
    if (Below(10) == 0) device_codes_.Retry();
  }

  // Searches in every way for a random vector among random chunks.
  void Compare() {
    const VectorIndex& vectors = index_->vectors;
    const std::vector<float> query = RandomVector();
    std::set<storage::ChunkId> passing;
    std::optional<index::RowSet> rows;
    const int64_t one_in = std::vector<int64_t>{1, 2, 10, 200}[static_cast<size_t>(Below(4))];
    if (one_in > 1) rows.emplace();
    for (const auto& [chunk, vector] : truth_) {
      if (Below(one_in) != 0) continue;
      passing.insert(chunk);
      const std::optional<int64_t> row = index_->rows.RowOf(chunk);
      ASSERT_TRUE(row.has_value());
      if (rows.has_value()) rows->AddRange(*row, *row + 1);
    }
    const std::vector<index::SearchHit> exact = Exact(query, passing);
    const SearchDevice device = {.codes = &device_codes_, .find = [] { return 0; }};
    FailNowAndThen();
    for (const VectorScan scan :
         {VectorScan::kFlat, VectorScan::kBinary, VectorScan::kGraph, VectorScan::kDevice}) {
      const auto found = vectors.Search({.vector = query,
                                         .k = kHits,
                                         .rows = rows.has_value() ? &*rows : nullptr,
                                         .scan = scan,
                                         .device = &device},
                                        index_->rows, nullptr);
      ASSERT_TRUE(found.ok()) << found.status();
      if (scan == VectorScan::kFlat) {
        ASSERT_EQ(found->hits, exact);
        continue;
      }
      // Whatever a way finds is there, passes, and is scored as the exact way scores it.
      ASSERT_EQ(found->hits.size(), exact.size())
          << found->access_path << " of " << passing.size() << " in " << truth_.size();
      for (const index::SearchHit& hit : found->hits) {
        ASSERT_TRUE(passing.contains(hit.id));
        ASSERT_EQ(Exact(query, {hit.id}).front().score, hit.score);
      }
      Recall& recall = recalls_[found->path];
      recall.num_wanted += std::ssize(exact);
      for (const index::SearchHit& hit : found->hits) {
        recall.num_found += std::count(exact.begin(), exact.end(), hit);
      }
    }
  }

  struct Known {
    storage::DocumentId document = 0;
    std::vector<storage::ChunkId> chunks;
  };
  struct Recall {
    int64_t num_found = 0;
    int64_t num_wanted = 0;
  };
  static constexpr int64_t kCenters = 12;

  std::mt19937_64 random_;
  storage::TemporaryDirectory folder_;
  FakeDevices devices_;
  DeviceCodes device_codes_{&devices_};
  std::vector<float> centers_ = std::vector<float>(static_cast<size_t>(kCenters * kDim));
  std::unique_ptr<storage::Database> database_;
  std::unique_ptr<VectorFiles> files_;
  std::unique_ptr<CollectionIndex> index_;
  storage::ModelId model_ = 0;
  storage::CollectionInfo collection_;
  std::map<std::string, Known> known_;                    // by source
  std::map<storage::ChunkId, std::vector<float>> truth_;  // what is there
  std::map<AccessPath, Recall> recalls_;
};

TEST_P(VectorSearchRandomTest, EveryWayAgreesWithComparingAll) {
  Put(100);
  int64_t num_file_rows_max = 0;
  for (int step = 0; step < 120; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const int64_t choice = Below(20);
    if (choice < 10) Put(1 + Below(8));
    if (choice >= 8 && choice < 12) Delete(1 + Below(4));
    if (choice == 12) Delete(std::ssize(known_) / 3);
    if (choice == 11 || choice == 13) ReplaceVectors();
    if (choice >= 14) OpenDatabase();
    if (choice >= 17) Put(1 + Below(3));  // before anything is loaded
    Refresh();
    if (step % 3 == 0) index_->vectors.WantGraph();
    ASSERT_TRUE(index_->vectors.MakeSmallGraph().ok());
    for (int i = 0; i < 3; ++i) Compare();
    if (HasFatalFailure()) return;
    num_file_rows_max = std::max(num_file_rows_max, index_->vectors.num_in_files());
  }
  EXPECT_GT(num_file_rows_max, 100);
  for (const AccessPath path : {AccessPath::kBinary, AccessPath::kGraph, AccessPath::kDevice}) {
    const Recall& recall = recalls_[path];
    ASSERT_GT(recall.num_wanted, 100) << AccessPathName(path);
    EXPECT_GE(static_cast<double>(recall.num_found) / static_cast<double>(recall.num_wanted), 0.95)
        << AccessPathName(path);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, VectorSearchRandomTest, testing::Values(1U, 2U, 3U));

}  // namespace
}  // namespace intarsia::engine
