#include "engine/vector_index.h"

#include <algorithm>
#include <utility>

namespace intarsia::engine {
namespace {

// Below this many vectors the exact scan is as fast as any other.
constexpr int64_t kFlatMax = 20'000;
// The codes' centre is found anew when there are this many times the vectors that it was found for.
constexpr int64_t kGrowthMax = 2;

}  // namespace

void VectorIndex::Clear() {
  num_rows_ = -1;
  flat_.reset();
  binary_.reset();
  missing_ = index::RowSet();
}

Status VectorIndex::Refresh(const storage::ReadView& view, storage::CollectionId collection,
                            storage::ModelId model, const RowIndex& rows, ThreadPool* pool) {
  if (IsCurrent(rows, model)) return Status::Ok();
  const auto take_up = [&]() -> Status {
    const bool can_append = model_ == model && epoch_ == rows.epoch() && flat_ != nullptr &&
                            num_rows_ <= rows.num_rows();
    model_ = model;
    epoch_ = rows.epoch();
    INTARSIA_RETURN_IF_ERROR(can_append ? Append(view, collection, rows)
                                        : Build(view, collection, rows));
    return RefreshCodes(pool);
  };
  if (Status status = take_up(); !status.ok()) {
    Clear();
    return status;
  }
  num_rows_ = rows.num_rows();
  return Status::Ok();
}

Status VectorIndex::Build(const storage::ReadView& view, storage::CollectionId collection,
                          const RowIndex& rows) {
  Clear();
  INTARSIA_ASSIGN_OR_RETURN(const storage::VectorSet vectors, view.LoadVectors(collection, model_));
  if (vectors.ids.empty()) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(flat_, index::FlatIndex::Create({.dim = vectors.dimension}));
  return AddRows(rows.chunks(), vectors);
}

Status VectorIndex::Append(const storage::ReadView& view, storage::CollectionId collection,
                           const RowIndex& rows) {
  const auto fresh = rows.chunks().subspan(static_cast<size_t>(flat_->size()));
  storage::VectorSet vectors;
  vectors.dimension = flat_->dim();
  for (const storage::ChunkId chunk : fresh) {
    const Result<std::vector<float>> vector = view.GetVector(collection, model_, chunk);
    if (vector.status().code() == StatusCode::kNotFound) continue;
    INTARSIA_RETURN_IF_ERROR(vector.status());
    vectors.ids.push_back(chunk);
    vectors.values.insert(vectors.values.end(), vector->begin(), vector->end());
  }
  return AddRows(fresh, vectors);
}

Status VectorIndex::AddRows(std::span<const storage::ChunkId> chunks,
                            const storage::VectorSet& vectors) {
  if (std::ranges::equal(chunks, vectors.ids)) return flat_->Add(vectors.ids, vectors.values);
  // Both ascend. What has no vector gets one, and is left out of every search.
  const auto dim = static_cast<size_t>(flat_->dim());
  std::vector<float> values;
  values.reserve(chunks.size() * dim);
  size_t next = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    while (next < vectors.ids.size() && vectors.ids[next] < chunks[i]) ++next;
    if (next < vectors.ids.size() && vectors.ids[next] == chunks[i]) {
      const auto begin = vectors.values.begin() + static_cast<std::ptrdiff_t>(next * dim);
      values.insert(values.end(), begin, begin + static_cast<std::ptrdiff_t>(dim));
    } else {
      const int64_t row = flat_->size() + static_cast<int64_t>(i);
      missing_.AddRange(row, row + 1);
      values.resize(values.size() + dim, 1.0F);
    }
  }
  return flat_->Add(chunks, values);
}

Status VectorIndex::RefreshCodes(ThreadPool* pool) {
  if (flat_ == nullptr || flat_->size() <= kFlatMax) {
    binary_.reset();
    return Status::Ok();
  }
  if (binary_ != nullptr && flat_->size() <= kGrowthMax * binary_->num_fitted()) {
    return binary_->Append(*flat_, pool);
  }
  INTARSIA_ASSIGN_OR_RETURN(binary_, index::BinaryIndex::Build(*flat_, {}, pool));
  return Status::Ok();
}

int64_t VectorIndex::num_vectors(const RowIndex& rows) const {
  if (flat_ == nullptr) return 0;
  index::RowSet there = index::RowSet::FromWords(rows.live_words());
  there.AndNot(missing_);
  return there.size();
}

int64_t VectorIndex::memory_bytes() const {
  int64_t bytes = missing_.memory_bytes();
  if (flat_ != nullptr) bytes += flat_->size() * (flat_->dim() * int64_t{sizeof(float)} + 48);
  if (binary_ != nullptr) bytes += binary_->memory_bytes();
  return bytes;
}

Result<VectorMatches> VectorIndex::Search(const VectorQuery& query, const RowIndex& rows,
                                          ThreadPool* pool) const {
  VectorMatches matches;
  matches.access_path = "flat scan";
  if (flat_ == nullptr) return matches;
  const bool is_whole = rows.num_live() == rows.num_rows();
  std::vector<uint64_t> words;
  index::SlotFilter filter = {};
  if (query.rows != nullptr || !missing_.is_empty()) {
    index::RowSet passing =
        query.rows != nullptr ? *query.rows : index::RowSet::FromWords(rows.live_words());
    passing.AndNot(missing_);
    words = passing.ToWords(rows.num_rows());
    filter = words;
    matches.num_rescored = passing.size();
  } else {
    if (!is_whole) filter = rows.live_words();
    matches.num_rescored = rows.num_live();
  }
  if (matches.num_rescored == 0) return matches;
  const index::SearchParams params = {
      .query = query.vector, .k = query.k, .filter = filter, .pool = pool};
  if (query.scan != VectorScan::kFlat && binary_ != nullptr) {
    INTARSIA_ASSIGN_OR_RETURN(index::BinarySearchResult found, binary_->Search(*flat_, params, {}));
    matches.hits = std::move(found.hits);
    matches.access_path = "binary scan, rescored";
    matches.num_rescored = found.num_rescored;
  } else {
    INTARSIA_ASSIGN_OR_RETURN(matches.hits, flat_->Search(params));
  }
  return matches;
}

}  // namespace intarsia::engine
