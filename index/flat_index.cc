#include "index/flat_index.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/dot_rows.h"

namespace intarsia::index {
namespace {

constexpr int64_t kDimMax = 65'536;
constexpr int64_t kResultsMax = 1'000'000;
// Longer vectors could have products that a float cannot hold.
constexpr double kLengthMax = 1e18;
// Rows scored by one call of the kernel; their scores stay in the first cache.
constexpr int64_t kTileRows = 1'024;
// Rows searched by one thread at a time: a multiple of kTileRows.
constexpr int64_t kRangeRows = 16 * kTileRows;

// The length of `vector`: finite and above zero, or an error that says what is wrong with it.
Result<double> LengthOf(std::span<const float> vector, const std::string& name) {
  double square = 0.0;
  for (size_t i = 0; i < vector.size(); ++i) {
    if (!std::isfinite(vector[i])) {
      return Status(StatusCode::kInvalidArgument, "vector holds a value that is not finite: " +
                                                      name + " dimension=" + std::to_string(i));
    }
    square += static_cast<double>(vector[i]) * vector[i];
  }
  if (square <= 0.0) {
    return Status(StatusCode::kInvalidArgument,
                  "vector has no length (all zeros), so it has no direction to compare: " + name);
  }
  const double length = std::sqrt(square);
  if (length > kLengthMax) {
    return Status(StatusCode::kInvalidArgument, "vector is too long to compare: " + name +
                                                    " length=" + std::to_string(length) +
                                                    " max=" + std::to_string(kLengthMax));
  }
  return length;
}

void CopyScaled(std::span<const float> source, double factor, float* target) {
  for (size_t i = 0; i < source.size(); ++i) {
    target[i] = static_cast<float>(source[i] * factor);
  }
}

std::span<const float> RowOf(std::span<const float> rows, int64_t row, int64_t dim) {
  return rows.subspan(static_cast<size_t>(row * dim), static_cast<size_t>(dim));
}

// Appends the set bits of `filter` in [begin, end) to `slots`, which has room; returns how many.
int64_t ListSlots(SlotFilter filter, int64_t begin, int64_t end, int64_t* slots) {
  int64_t count = 0;
  for (int64_t word = begin / 64; word * 64 < end; ++word) {
    uint64_t bits = filter[static_cast<size_t>(word)];
    if (end - word * 64 < 64) bits &= (uint64_t{1} << (end - word * 64)) - 1;
    for (; bits != 0; bits &= bits - 1) slots[count++] = word * 64 + std::countr_zero(bits);
  }
  return count;
}

}  // namespace

Result<std::unique_ptr<FlatIndex>> FlatIndex::Create(const FlatIndexOptions& options) {
  if (options.dim < 1 || options.dim > kDimMax) {
    return Status(StatusCode::kInvalidArgument,
                  "vector dimension out of range: dim=" + std::to_string(options.dim) +
                      " min=1 max=" + std::to_string(kDimMax));
  }
  return std::unique_ptr<FlatIndex>(new FlatIndex(options));
}

std::span<const float> FlatIndex::row(int64_t slot) const {
  INTARSIA_CHECK(slot >= 0 && slot < size());
  return RowOf(rows_, slot, dim());
}

std::optional<int64_t> FlatIndex::SlotOf(uint64_t id) const {
  const auto found = slots_.find(id);
  if (found == slots_.end()) return std::nullopt;
  return found->second;
}

Status FlatIndex::CheckVectors(std::span<const uint64_t> ids,
                               std::span<const float> vectors) const {
  const auto num_rows = static_cast<int64_t>(ids.size());
  if (static_cast<int64_t>(vectors.size()) != num_rows * dim()) {
    return Status(StatusCode::kInvalidArgument,
                  "number of vector elements does not match: ids=" + std::to_string(num_rows) +
                      " dim=" + std::to_string(dim()) +
                      " elements=" + std::to_string(vectors.size()));
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    const uint64_t id = ids[static_cast<size_t>(i)];
    const std::string name = "id=" + std::to_string(id);
    if (slots_.contains(id)) {
      return Status(StatusCode::kAlreadyExists, "vector is already in the index: " + name);
    }
    if (auto length = LengthOf(RowOf(vectors, i, dim()), name); !length.ok()) {
      return std::move(length).status();
    }
  }
  std::vector<uint64_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twin = std::adjacent_find(sorted.begin(), sorted.end());
  if (twin != sorted.end()) {
    return Status(StatusCode::kAlreadyExists,
                  "vector comes twice in one call: id=" + std::to_string(*twin));
  }
  return Status::Ok();
}

Status FlatIndex::Add(std::span<const uint64_t> ids, std::span<const float> vectors) {
  INTARSIA_RETURN_IF_ERROR(CheckVectors(ids, vectors));
  const size_t old_size = rows_.size();
  rows_.resize(old_size + vectors.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::span<const float> source = RowOf(vectors, static_cast<int64_t>(i), dim());
    float* target = rows_.data() + old_size + i * source.size();
    if (metric() == Metric::kCosine) {
      CopyScaled(source, 1.0 / *LengthOf(source, ""), target);
    } else {
      std::copy(source.begin(), source.end(), target);
    }
    slots_.emplace(ids[i], size());
    ids_.push_back(ids[i]);
  }
  return Status::Ok();
}

Result<int64_t> FlatIndex::Remove(uint64_t id) {
  const auto found = slots_.find(id);
  if (found == slots_.end()) {
    return Status(StatusCode::kNotFound, "vector is not in the index: id=" + std::to_string(id));
  }
  const int64_t slot = found->second;
  const int64_t last = size() - 1;
  if (slot != last) {
    const std::span<const float> moved = row(last);
    std::copy(moved.begin(), moved.end(), rows_.begin() + slot * dim());
    ids_[static_cast<size_t>(slot)] = ids_.back();
    slots_[ids_.back()] = slot;
  }
  slots_.erase(id);
  ids_.pop_back();
  rows_.resize(static_cast<size_t>(last * dim()));
  return slot;
}

std::vector<uint64_t> FlatIndex::FilterOf(std::span<const uint64_t> ids) const {
  // One word at least, because an empty filter means all slots.
  std::vector<uint64_t> words(static_cast<size_t>(std::max<int64_t>(1, (size() + 63) / 64)), 0);
  for (const uint64_t id : ids) {
    if (const auto slot = SlotOf(id)) {
      words[static_cast<size_t>(*slot / 64)] |= uint64_t{1} << (*slot % 64);
    }
  }
  return words;
}

Result<std::vector<float>> FlatIndex::PrepareQuery(std::span<const float> query) const {
  if (static_cast<int64_t>(query.size()) != dim()) {
    return Status(StatusCode::kInvalidArgument,
                  "query vector has the wrong dimension: got=" + std::to_string(query.size()) +
                      " want=" + std::to_string(dim()));
  }
  INTARSIA_ASSIGN_OR_RETURN(const double length, LengthOf(query, "query"));
  std::vector<float> prepared(query.size());
  CopyScaled(query, metric() == Metric::kCosine ? 1.0 / length : 1.0, prepared.data());
  return prepared;
}

Status FlatIndex::CheckParams(const SearchParams& params) const {
  if (params.k < 1 || params.k > kResultsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "number of results out of range: k=" + std::to_string(params.k) +
                      " min=1 max=" + std::to_string(kResultsMax));
  }
  if (!params.filter.empty() && static_cast<int64_t>(params.filter.size()) * 64 < size()) {
    return Status(StatusCode::kInvalidArgument, "filter is shorter than the index: words=" +
                                                    std::to_string(params.filter.size()) +
                                                    " slots=" + std::to_string(size()));
  }
  return Status::Ok();
}

void FlatIndex::ScanRange(const float* query, SlotFilter filter, int64_t begin, int64_t end,
                          TopK* best) const {
  std::array<int64_t, kTileRows> slots{};
  std::array<float, kTileRows> scores{};
  for (int64_t tile = begin; tile < end; tile += kTileRows) {
    const int64_t tile_end = std::min(end, tile + kTileRows);
    kernels::DotRowsParams dot;
    dot.query = query;
    dot.dim = dim();
    dot.scores = scores.data();
    dot.rows = rows_.data() + tile * dim();
    dot.num_rows = tile_end - tile;
    if (!filter.empty()) {
      dot.rows = rows_.data();
      dot.row_index = slots.data();
      dot.num_rows = ListSlots(filter, tile, tile_end, slots.data());
    }
    // The params are ours, so an error is a bug.
    INTARSIA_CHECK(kernels::DotRows(dot).ok());
    for (int64_t i = 0; i < dot.num_rows; ++i) {
      const float score = scores[static_cast<size_t>(i)];
      if (score < best->threshold()) continue;
      const int64_t slot = filter.empty() ? tile + i : slots[static_cast<size_t>(i)];
      best->Push({ids_[static_cast<size_t>(slot)], score});
    }
  }
}

Result<std::vector<SearchHit>> FlatIndex::Search(const SearchParams& params) const {
  INTARSIA_RETURN_IF_ERROR(CheckParams(params));
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> query, PrepareQuery(params.query));
  const int64_t num_ranges = (size() + kRangeRows - 1) / kRangeRows;
  if (params.pool == nullptr || num_ranges < 2) {
    TopK best(params.k);
    ScanRange(query.data(), params.filter, 0, size(), &best);
    return best.Take();
  }
  std::vector<TopK> bests(static_cast<size_t>(params.pool->num_threads()), TopK(params.k));
  params.pool->ParallelFor(num_ranges, [&](int64_t range, int worker) {
    const int64_t begin = range * kRangeRows;
    ScanRange(query.data(), params.filter, begin, std::min(size(), begin + kRangeRows),
              &bests[static_cast<size_t>(worker)]);
  });
  for (size_t i = 1; i < bests.size(); ++i) bests[0].Merge(bests[i]);
  return bests[0].Take();
}

}  // namespace intarsia::index
