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
constexpr int64_t kPageRowsMin = 8;
constexpr int64_t kPageRowsMax = int64_t{1} << 20;
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
    if (begin > word * 64) bits &= ~uint64_t{0} << (begin - word * 64);
    if (end - word * 64 < 64) bits &= (uint64_t{1} << (end - word * 64)) - 1;
    for (; bits != 0; bits &= bits - 1) slots[count++] = word * 64 + std::countr_zero(bits);
  }
  return count;
}

}  // namespace

uint64_t ChecksumOfRow(std::span<const float> row) {
  return ChecksumOf({reinterpret_cast<const char*>(row.data()), row.size_bytes()}).low;
}

FlatIndex::FlatIndex(const FlatIndexOptions& options)
    : options_(options),
      page_shift_(std::countr_zero(static_cast<uint64_t>(options.page_rows))),
      zeros_(static_cast<size_t>(options.dim), 0.0F) {}

Result<std::unique_ptr<FlatIndex>> FlatIndex::Create(const FlatIndexOptions& options) {
  if (options.dim < 1 || options.dim > kDimMax) {
    return Status(StatusCode::kInvalidArgument,
                  "vector dimension out of range: dim=" + std::to_string(options.dim) +
                      " min=1 max=" + std::to_string(kDimMax));
  }
  if (options.page_rows < kPageRowsMin || options.page_rows > kPageRowsMax ||
      !std::has_single_bit(static_cast<uint64_t>(options.page_rows))) {
    return Status(StatusCode::kInvalidArgument,
                  "vectors of a page out of range: page_rows=" + std::to_string(options.page_rows) +
                      ", want a power of two from " + std::to_string(kPageRowsMin) + " to " +
                      std::to_string(kPageRowsMax));
  }
  return std::unique_ptr<FlatIndex>(new FlatIndex(options));
}

std::span<const float> FlatIndex::row(int64_t slot) const {
  INTARSIA_CHECK(slot >= 0 && slot < size());
  const Page& page = pages_[static_cast<size_t>(slot >> page_shift_)];
  const int64_t at = slot & (options_.page_rows - 1);
  if (page.checksums != nullptr) {
    const uint64_t word =
        page.is_checked[static_cast<size_t>(at / 64)].load(std::memory_order_relaxed);
    if ((word >> (at % 64) & 1) == 0) return CheckRow(page, at);
  }
  return {page.rows + at * dim(), zeros_.size()};
}

std::span<const float> FlatIndex::CheckRow(const Page& page, int64_t row) const {
  const std::span<const float> values(page.rows + row * dim(), zeros_.size());
  if (ChecksumOfRow(values) != page.checksums[row]) {
    is_damaged_.store(true, std::memory_order_relaxed);
    return zeros_;
  }
  page.is_checked[static_cast<size_t>(row / 64)].fetch_or(uint64_t{1} << (row % 64),
                                                          std::memory_order_relaxed);
  return values;
}

bool FlatIndex::CheckRows(int64_t begin, int64_t end) const {
  const Page& page = pages_[static_cast<size_t>(begin >> page_shift_)];
  if (page.checksums == nullptr) return true;
  bool is_whole = true;
  for (int64_t slot = begin; slot < end; ++slot) {
    const int64_t at = slot & (options_.page_rows - 1);
    if (at % 64 == 0 && page.is_checked[static_cast<size_t>(at / 64)].load(
                            std::memory_order_relaxed) == ~uint64_t{0}) {
      slot += 63;
      continue;
    }
    if (row(slot).data() == zeros_.data()) is_whole = false;
  }
  return is_whole;
}

uint64_t FlatIndex::row_checksum(int64_t slot) const {
  INTARSIA_CHECK(slot >= 0 && slot < size());
  const Page& page = pages_[static_cast<size_t>(slot >> page_shift_)];
  return page.checksums != nullptr ? page.checksums[slot & (options_.page_rows - 1)]
                                   : ChecksumOfRow(row(slot));
}

int64_t FlatIndex::memory_bytes() const {
  int64_t bytes = static_cast<int64_t>(ids_.capacity() * sizeof(uint64_t)) +
                  static_cast<int64_t>(pages_.capacity() * sizeof(Page));
  for (const Page& page : pages_) {
    bytes += page.own.num_bytes();
    if (page.checksums != nullptr) bytes += options_.page_rows / 8;
  }
  return bytes;
}

Status FlatIndex::CheckDamage() const {
  if (!is_damaged()) return Status::Ok();
  return Status(StatusCode::kCorruption, "vectors that lie in a file are damaged");
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
    const std::string name = "id=" + std::to_string(ids[static_cast<size_t>(i)]);
    if (auto length = LengthOf(RowOf(vectors, i, dim()), name); !length.ok()) {
      return std::move(length).status();
    }
  }
  return Status::Ok();
}

Status FlatIndex::GrowLastPage(int64_t num_used, int64_t num_rows) {
  Page& page = pages_.back();
  if (page.own.size() >= num_rows * dim()) return Status::Ok();
  const int64_t room = std::min(options_.page_rows, std::max(num_rows, 2 * num_used));
  INTARSIA_ASSIGN_OR_RETURN(auto more, AlignedArray<float>::TryCreate(room * dim()));
  std::copy_n(page.rows, num_used * dim(), more.data());
  page.own = std::move(more);
  page.rows = page.own.data();
  return Status::Ok();
}

void FlatIndex::Reserve(int64_t num_rows) {
  ids_.reserve(static_cast<size_t>(num_rows));
  pages_.reserve(static_cast<size_t>((num_rows + options_.page_rows - 1) >> page_shift_));
}

Status FlatIndex::Add(std::span<const uint64_t> ids, std::span<const float> vectors) {
  INTARSIA_RETURN_IF_ERROR(CheckVectors(ids, vectors));
  const int64_t old_size = size();
  const auto num_rows = static_cast<int64_t>(ids.size());
  for (int64_t done = 0; done < num_rows;) {
    const int64_t used = (old_size + done) & (options_.page_rows - 1);
    const int64_t count = std::min(num_rows - done, options_.page_rows - used);
    if (used == 0) pages_.emplace_back();
    if (Status grown = GrowLastPage(used, used + count); !grown.ok()) {
      pages_.resize(static_cast<size_t>((old_size + options_.page_rows - 1) >> page_shift_));
      return grown;
    }
    for (int64_t i = 0; i < count; ++i) {
      const std::span<const float> source = RowOf(vectors, done + i, dim());
      float* const target = pages_.back().own.data() + (used + i) * dim();
      if (metric() == Metric::kCosine) {
        CopyScaled(source, 1.0 / *LengthOf(source, ""), target);
      } else {
        std::copy(source.begin(), source.end(), target);
      }
    }
    done += count;
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return Status::Ok();
}

Status FlatIndex::CheckForeign(int64_t begin, const ForeignRows& rows) const {
  const int64_t rest = options_.page_rows - 1;
  if (begin < 0 || rows.num_rows < 0 || (begin & rest) != 0 || (rows.num_rows & rest) != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "vectors that lie elsewhere are no whole pages: begin=" + std::to_string(begin) +
                      " count=" + std::to_string(rows.num_rows) +
                      " page_rows=" + std::to_string(options_.page_rows));
  }
  return Status::Ok();
}

void FlatIndex::SetForeign(int64_t begin, const ForeignRows& rows) {
  for (int64_t first = 0; first < rows.num_rows; first += options_.page_rows) {
    Page& page = pages_[static_cast<size_t>((begin + first) >> page_shift_)];
    if (page.checksums == nullptr) num_foreign_ += options_.page_rows;
    page = {.rows = rows.rows + first * dim(),
            .own = {},
            .checksums = rows.checksums + first,
            .is_checked = std::make_unique<std::atomic<uint64_t>[]>(
                static_cast<size_t>((options_.page_rows + 63) / 64)),
            .owner = rows.owner};
  }
}

Status FlatIndex::AddForeign(std::span<const uint64_t> ids, const ForeignRows& rows) {
  if (std::ssize(ids) != rows.num_rows) {
    return Status(StatusCode::kInvalidArgument,
                  "number of vectors does not match: ids=" + std::to_string(ids.size()) +
                      " vectors=" + std::to_string(rows.num_rows));
  }
  INTARSIA_RETURN_IF_ERROR(CheckForeign(size(), rows));
  const int64_t begin = size();
  pages_.resize(static_cast<size_t>((begin + rows.num_rows) >> page_shift_));
  SetForeign(begin, rows);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return Status::Ok();
}

Status FlatIndex::MoveTo(int64_t begin, const ForeignRows& rows) {
  INTARSIA_RETURN_IF_ERROR(CheckForeign(begin, rows));
  if (begin + rows.num_rows > size()) {
    return Status(StatusCode::kInvalidArgument, "there are no such vectors to lie elsewhere: end=" +
                                                    std::to_string(begin + rows.num_rows) +
                                                    " size=" + std::to_string(size()));
  }
  SetForeign(begin, rows);
  return Status::Ok();
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
  std::array<const float*, kTileRows> pointers{};
  std::array<float, kTileRows> scores{};
  for (int64_t tile = begin; tile < end;) {
    const int64_t tile_end = std::min({end, tile + kTileRows, page_end(tile)});
    kernels::DotRowsParams dot;
    dot.query = query;
    dot.dim = dim();
    dot.scores = scores.data();
    if (filter.empty()) {
      if (!CheckRows(tile, tile_end)) return;
      dot.rows = row(tile).data();
      dot.num_rows = tile_end - tile;
    } else {
      dot.row_pointers = pointers.data();
      dot.num_rows = ListSlots(filter, tile, tile_end, slots.data());
      for (int64_t i = 0; i < dot.num_rows; ++i) {
        pointers[static_cast<size_t>(i)] = row(slots[static_cast<size_t>(i)]).data();
      }
    }
    // The params are ours, so an error is a bug.
    INTARSIA_CHECK(kernels::DotRows(dot).ok());
    for (int64_t i = 0; i < dot.num_rows; ++i) {
      const float score = scores[static_cast<size_t>(i)];
      if (score < best->threshold()) continue;
      const int64_t slot = filter.empty() ? tile + i : slots[static_cast<size_t>(i)];
      best->Push({ids_[static_cast<size_t>(slot)], score});
    }
    tile = tile_end;
  }
}

Result<std::vector<SearchHit>> FlatIndex::Search(const SearchParams& params) const {
  INTARSIA_RETURN_IF_ERROR(CheckParams(params));
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> query, PrepareQuery(params.query));
  const int64_t num_ranges = (size() + kRangeRows - 1) / kRangeRows;
  if (params.pool == nullptr || num_ranges < 2) {
    TopK best(params.k);
    ScanRange(query.data(), params.filter, 0, size(), &best);
    INTARSIA_RETURN_IF_ERROR(CheckDamage());
    return best.Take();
  }
  std::vector<TopK> bests(static_cast<size_t>(params.pool->num_threads()), TopK(params.k));
  params.pool->ParallelFor(num_ranges, [&](int64_t range, int worker) {
    const int64_t begin = range * kRangeRows;
    ScanRange(query.data(), params.filter, begin, std::min(size(), begin + kRangeRows),
              &bests[static_cast<size_t>(worker)]);
  });
  INTARSIA_RETURN_IF_ERROR(CheckDamage());
  for (size_t i = 1; i < bests.size(); ++i) bests[0].Merge(bests[i]);
  return bests[0].Take();
}

}  // namespace intarsia::index
