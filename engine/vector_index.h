// VectorIndex: the vectors of one collection under the row numbers of its RowIndex, and the
// structures that search them.
//
// The vectors are in an exact index; larger collections also have codes of one or two bits a
// dimension. Rows that are gone are left out by the filter of each search, so both follow a change
// by adding at their end. A chunk without a vector of the model keeps a place that no search sees.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/row_index.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "storage/database.h"

namespace intarsia::engine {

enum class VectorScan : uint8_t { kAuto, kFlat, kBinary };

struct VectorQuery {
  std::span<const float> vector;
  int64_t k = 10;
  const index::RowSet* rows = nullptr;  // those that pass WHERE; null: all
  VectorScan scan = VectorScan::kAuto;
};

struct VectorMatches {
  std::vector<index::SearchHit> hits;  // with chunk ids, best first
  std::string access_path;             // "flat scan" or "binary scan, rescored"
  int64_t num_rescored = 0;            // compared exactly
};

class VectorIndex {
 public:
  // Whether Refresh() with the same arguments would change nothing.
  bool IsCurrent(const RowIndex& rows, storage::ModelId model) const {
    return model_ == model && epoch_ == rows.epoch() && num_rows_ == rows.num_rows();
  }
  // Takes up the vectors of rows that came since, or of all. Errors: those of ReadView;
  // kInvalidArgument for a stored vector that cannot be compared; the index is empty then.
  Status Refresh(const storage::ReadView& view, storage::CollectionId collection,
                 storage::ModelId model, const RowIndex& rows, ThreadPool* pool);

  int64_t num_vectors(const RowIndex& rows) const;  // of chunks that are not gone
  int64_t memory_bytes() const;

  // The vectors nearest to the query. Errors: those of FlatIndex::Search.
  Result<VectorMatches> Search(const VectorQuery& query, const RowIndex& rows,
                               ThreadPool* pool) const;

 private:
  Status Build(const storage::ReadView& view, storage::CollectionId collection,
               const RowIndex& rows);
  Status Append(const storage::ReadView& view, storage::CollectionId collection,
                const RowIndex& rows);
  Status AddRows(std::span<const storage::ChunkId> chunks, const storage::VectorSet& vectors);
  Status RefreshCodes(ThreadPool* pool);
  void Clear();

  storage::ModelId model_ = 0;
  uint64_t epoch_ = 0;
  int64_t num_rows_ = -1;                       // of the RowIndex; -1: not built
  std::unique_ptr<index::FlatIndex> flat_;      // null while there are no vectors
  std::unique_ptr<index::BinaryIndex> binary_;  // null for few vectors
  index::RowSet missing_;                       // rows without a vector
};

}  // namespace intarsia::engine
