// VectorIndex: the vectors of one collection under the row numbers of its RowIndex, and the
// structures that search them.
//
// The vectors are in an exact index; larger collections also have codes of one or two bits a
// dimension, with settings that were measured on these vectors, and the largest, or those that are
// asked for it, a graph. Of what there is, a search takes what is predicted to be the fastest.
// Rows that are gone are left out by the filter of each search, so everything follows a change by
// adding at its end. A chunk without a vector of the model keeps a place that no search sees.
//
// What has codes is also kept in files, see vector_files.h, where the next opening finds it, and
// where the vectors stay: those of rows that are in files are read from there, and only the newest
// ones, some thousands, lie in memory. When a vector in a file is found to be damaged, searches
// fail with kCorruption, and the next Refresh() makes everything anew from the database.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/device_codes.h"
#include "engine/row_index.h"
#include "engine/search_costs.h"
#include "engine/vector_files.h"
#include "engine/vector_profile.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "index/graph_index.h"
#include "storage/database.h"

namespace intarsia::engine {

enum class VectorScan : uint8_t { kAuto, kFlat, kBinary, kGraph, kDevice };

// From which size on there is what.
struct VectorIndexOptions {
  int64_t flat_max = 20'000;          // larger ones have codes
  int64_t sampled_max = 32'768;       // vectors that settings are measured on, at least 32
  int64_t graph_min = 1'000'000;      // from here on there is a graph without being asked for it
  int64_t graph_at_once_max = 2'000;  // graphs up to this size are made while a search waits
  int64_t page_rows = 1'024;          // files hold whole pages: a power of two, at least 8
  int64_t file_rows_min = 8'192;      // so many rows that are in no file are written to one
};

struct VectorQuery {
  std::span<const float> vector;
  int64_t k = 10;
  const index::RowSet* rows = nullptr;  // those that pass WHERE; null: all
  VectorScan scan = VectorScan::kAuto;
  const SearchDevice* device = nullptr;  // null: the CPU does all of it
};

struct VectorMatches {
  std::vector<index::SearchHit> hits;  // with chunk ids, best first
  std::string access_path;             // for example "flat scan"
  int64_t num_rescored = 0;            // compared exactly; in a graph, kept by the walk
  std::array<double, kNumAccessPaths> predicted_ms = {};  // by AccessPath
  AccessPath path = AccessPath::kFlat;                    // that was taken in the end
  double search_ms = 0.0;
  std::string notice;  // why a device was not used that could have been; empty: nothing to say
};

class VectorIndex {
 public:
  // `files` outlives it; null: nothing is kept in files.
  VectorIndex(const VectorIndexOptions& options, VectorFiles* files)
      : options_(options), files_(files) {}

  // The chunks that are in files, by row, for the first RowIndex::Refresh() of an opening.
  std::vector<storage::ChunkId> FindKnownChunks(const storage::ReadView& view,
                                                storage::CollectionId collection);

  // Whether Refresh() with the same arguments would change nothing.
  bool IsCurrent(const RowIndex& rows, storage::ModelId model) const {
    return model_ == model && epoch_ == rows.epoch() && generation_ == rows.generation() &&
           !is_damaged();
  }
  // Whether a vector in a file was found to be damaged since the last Refresh().
  bool is_damaged() const { return flat_ != nullptr && flat_->is_damaged(); }
  // Drops everything and the files too. Errors: those of VectorFiles::RemoveAll.
  Status Drop(storage::CollectionId collection);
  // Takes up the vectors of rows that came since, or of all, and measures settings if there are
  // none that fit. Settings are stored unless the database is read-only.
  // Errors: those of ReadView; kInvalidArgument for a stored vector that cannot be compared; the
  // index is empty then.
  Status Refresh(storage::Database* database, const storage::ReadView& view,
                 storage::CollectionId collection, storage::ModelId model, const RowIndex& rows,
                 ThreadPool* pool);

  storage::ModelId model() const { return model_; }
  // Another number means that the vectors are others, or lie elsewhere.
  int64_t num_builds() const { return num_builds_; }
  int64_t num_vectors(const RowIndex& rows) const;  // of chunks that are not gone
  int64_t memory_bytes() const;                     // without the graph and what is in files
  int64_t num_in_files() const { return flat_ == nullptr ? 0 : flat_->num_foreign(); }
  int64_t file_bytes() const;
  bool has_codes() const { return binary_ != nullptr; }
  const std::optional<VectorProfile>& profile() const { return profile_; }
  const SearchCosts& costs() const { return costs_; }

  // The vectors nearest to the query. Errors: those of FlatIndex::Search.
  Result<VectorMatches> Search(const VectorQuery& query, const RowIndex& rows,
                               ThreadPool* pool) const;

  // The graph. Making one takes long, so it is made aside, see graph_builder.h, and given to the
  // index when it is done; what it lacks is compared one by one.
  const index::GraphIndex* graph() const { return graph_.get(); }
  bool wants_graph() const { return wants_graph_ && flat_ != nullptr; }
  void WantGraph() { wants_graph_ = true; }
  // Whether a search that asks for the graph can do no more for it: it is wanted, and what it lacks
  // is left to the background.
  bool is_graph_begun() const {
    return flat_ == nullptr ||
           (wants_graph_ && (num_lacking() == 0 || num_lacking() > options_.graph_at_once_max));
  }
  int64_t num_in_flat() const { return flat_ == nullptr ? 0 : flat_->size(); }
  // An empty graph, or the one in `bytes` if these are about the vectors that are here.
  Result<std::unique_ptr<index::GraphIndex>> StartGraph(std::string_view bytes) const;
  // Takes a graph that was started at this num_builds().
  void SetGraph(std::unique_ptr<index::GraphIndex> graph) { graph_ = std::move(graph); }
  // What the graph that is here finds and takes; not set before it was measured.
  const std::optional<index::GraphMeasure>& graph_measure() const { return graph_measure_; }
  // Measures it on vectors of rows that are there. Errors: those of index::MeasureGraph.
  Result<index::GraphMeasure> MeasureGraph(const RowIndex& rows) const;
  void SetGraphMeasure(const index::GraphMeasure& measure);
  // Adds at most `num_rows` to the graph that is here. Errors: those of GraphIndex::Append.
  Status GrowGraph(int64_t num_rows, int num_threads);
  // Makes the graph at once if that is quick. Errors: as GrowGraph.
  Status MakeSmallGraph();

 private:
  // Vectors that are not in the graph.
  int64_t num_lacking() const { return num_in_flat() - (graph_ == nullptr ? 0 : graph_->size()); }

  // What one search works with.
  struct Plan {
    index::SearchParams params;
    SearchWork work;
  };

  // Takes up everything that came since, or all of it.
  Status TakeUp(storage::Database* database, const storage::ReadView& view,
                storage::CollectionId collection, const RowIndex& rows, ThreadPool* pool);
  Status Build(const storage::ReadView& view, storage::CollectionId collection,
               const RowIndex& rows);
  void OpenChain(const storage::ReadView& view, storage::CollectionId collection);
  // Whether the files are about the first of the rows, with the texts that these stand for.
  bool FitsRows(const RowIndex& rows) const;
  // Takes up the files if they fit.
  Status AddFiles(const storage::ReadView& view, storage::CollectionId collection,
                  const RowIndex& rows);
  Status Append(const storage::ReadView& view, storage::CollectionId collection,
                const RowIndex& rows);
  // Writes what is in no file to one, if that is much.
  void WriteFiles(storage::CollectionId collection, const RowIndex& rows);
  // The first row to be written, so that the number of files and the bytes written stay small;
  // `num_kept` is how many files stay.
  int64_t FirstRowToWrite(int64_t end, size_t* num_kept) const;
  void DropChain(const char* why);
  Status RefreshProfile(storage::Database* database, const storage::ReadView& view,
                        storage::CollectionId collection, const RowIndex& rows, ThreadPool* pool);
  Status RefreshCodes(ThreadPool* pool);
  void Clear();

  AccessPath Choose(VectorScan scan, const std::array<double, kNumAccessPaths>& ms) const;
  // Takes the codes that are searched from now on.
  void SetCodes(std::unique_ptr<index::BinaryIndex> codes);
  index::BinarySearchOptions BinaryOptions() const;
  Status SearchFlat(const Plan& plan, VectorMatches* matches) const;
  Status SearchBinary(const Plan& plan, VectorMatches* matches) const;
  // The device if the search is to go there; if not, what was predicted of it becomes infinity.
  std::optional<int32_t> FindDevice(const VectorQuery& query,
                                    std::array<double, kNumAccessPaths>* ms) const;
  // On a device; or, if it cannot, in the best other way, with a notice.
  Status SearchOnDevice(const Plan& plan, const SearchDevice& device, int32_t index,
                        VectorMatches* matches) const;
  // On the device with this index. Errors: those of the device.
  Status SearchAt(const Plan& plan, const SearchDevice& device, int32_t index,
                  VectorMatches* matches) const;
  // By a path that the CPU goes alone, or by the graph and what is left then.
  Status SearchOnCpu(const Plan& plan, VectorMatches* matches) const;
  // Sets `is_short` if the graph did not find enough.
  Status SearchGraph(const Plan& plan, VectorMatches* matches, bool* is_short) const;

  const VectorIndexOptions options_;
  VectorFiles* const files_;
  bool is_chain_known_ = false;  // whether the files were looked for
  VectorFileChain chain_;        // by rows
  int64_t write_at_ = 0;         // rows there must be before another attempt to write
  uint64_t changed_at_ = 0;      // when vectors were replaced, as far as it was taken up
  storage::ModelId model_ = 0;
  uint64_t epoch_ = 0;
  int64_t num_builds_ = 0;
  uint64_t generation_ = 0;                     // of the RowIndex; 0: not built
  std::unique_ptr<index::FlatIndex> flat_;      // null while there are no vectors
  std::unique_ptr<index::BinaryIndex> binary_;  // null for few vectors
  mutable DeviceCodeCopy on_device_;            // of binary_; thread-safe
  std::unique_ptr<index::GraphIndex> graph_;    // null if there is none yet
  std::optional<index::GraphMeasure> graph_measure_;
  bool wants_graph_ = false;
  std::optional<VectorProfile> profile_;  // not set for few vectors
  index::RowSet missing_;                 // rows without a vector
  mutable SearchCosts costs_;             // thread-safe
};

}  // namespace intarsia::engine
