// FlatIndex: vectors in a dense array, searched exactly by comparing all of them.
//
// It is the truth that every other vector index is built from and rescored by. A vector's place is
// its slot, in [0, size()), and never changes; what is deleted is left out by a filter, a bitmap
// over slots. The array is cut into pages, each of which lies in memory of its own or in memory of
// somebody else, such as a mapped file. Of the latter no row is trusted: it is compared with its
// checksum when it is first read, and one that differs reads as zeros and makes every search fail
// from then on, so that nothing is answered from it.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned_array.h"
#include "base/hash.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "index/top_k.h"

namespace intarsia::index {

enum class Metric : uint8_t {
  kInnerProduct = 0,  // vectors are kept as they are given
  kCosine = 1,        // vectors are kept at unit length
};

struct FlatIndexOptions {
  int64_t dim = 0;  // in [1, 65536]
  Metric metric = Metric::kCosine;
  int64_t page_rows = 1'024;  // slots of a page: a power of two, at least 8
};

// Vectors that lie elsewhere, as a FlatIndex with the same metric keeps them.
struct ForeignRows {
  const float* rows = nullptr;          // [num_rows, dim]
  const uint64_t* checksums = nullptr;  // [num_rows], see ChecksumOfRow
  int64_t num_rows = 0;
  std::shared_ptr<const void> owner;  // of all that the pointers lead to
};

// The low half of the XXH3-128 of a vector's floats.
uint64_t ChecksumOfRow(std::span<const float> row);

// One bit a slot, the lowest first. Empty: all slots.
using SlotFilter = std::span<const uint64_t>;

struct SearchParams {
  std::span<const float> query = {};  // [dim]
  int64_t k = 10;                     // in [1, 1,000,000]
  SlotFilter filter = {};             // empty, or at least ceil(size() / 64) words
  ThreadPool* pool = nullptr;         // null: on the calling thread
};

class FlatIndex {
 public:
  // Errors: kInvalidArgument if an option is out of its range.
  static Result<std::unique_ptr<FlatIndex>> Create(const FlatIndexOptions& options);

  int64_t dim() const { return options_.dim; }
  Metric metric() const { return options_.metric; }
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  std::span<const uint64_t> ids() const { return ids_; }  // [size()], by slot
  // The vector in `slot`, as it is kept [dim]; zeros if it is damaged.
  // REQUIRES: 0 <= slot < size().
  std::span<const float> row(int64_t slot) const;
  // Of the vector in `slot`. REQUIRES: 0 <= slot < size().
  uint64_t row_checksum(int64_t slot) const;
  // The first slot behind the page of `slot`.
  int64_t page_end(int64_t slot) const { return (slot | (options_.page_rows - 1)) + 1; }
  int64_t page_rows() const { return options_.page_rows; }

  // Slots whose vectors lie elsewhere.
  int64_t num_foreign() const { return num_foreign_; }
  int64_t memory_bytes() const;  // without what lies elsewhere
  // Whether a vector that lies elsewhere was found to be damaged.
  bool is_damaged() const { return is_damaged_.load(std::memory_order_relaxed); }
  // kCorruption if it is.
  Status CheckDamage() const;

  // Makes room for the names of so many vectors.
  void Reserve(int64_t num_rows);
  // Adds vectors [ids.size(), dim] in new slots at the end, all or none. Ids are for the caller to
  // tell apart.
  // Errors: kInvalidArgument if the sizes do not match, or a vector holds NaN or infinity, or has
  // no length or one above 1e18, and the message names the id; kResourceExhausted.
  Status Add(std::span<const uint64_t> ids, std::span<const float> vectors);
  // The same with vectors that stay where they are. Errors: kInvalidArgument if the sizes do not
  // match or it is not about whole pages, also of what is there.
  Status AddForeign(std::span<const uint64_t> ids, const ForeignRows& rows);
  // From now on the vectors of the slots from `begin` on lie there. Errors: as AddForeign.
  Status MoveTo(int64_t begin, const ForeignRows& rows);

  // The query as it is compared: a copy, of unit length under kCosine.
  // Errors: kInvalidArgument if its size is wrong, or it is not finite or has no length.
  Result<std::vector<float>> PrepareQuery(std::span<const float> query) const;

  // The k vectors with the highest inner product (the cosine under kCosine), best first, ties by
  // lower id. Fewer than k if fewer pass the filter. Exact.
  // Errors: kInvalidArgument for a bad query (see PrepareQuery), k or filter; kCorruption.
  Result<std::vector<SearchHit>> Search(const SearchParams& params) const;

  // Checks k and filter as Search() does.
  Status CheckParams(const SearchParams& params) const;

 private:
  struct Page {
    const float* rows = nullptr;  // [page_rows, dim], in `own` or elsewhere
    AlignedArray<float> own;      // with room for more rows
    // Of what lies elsewhere.
    const uint64_t* checksums = nullptr;
    std::unique_ptr<std::atomic<uint64_t>[]> is_checked;  // a bit for each row
    std::shared_ptr<const void> owner;
  };

  explicit FlatIndex(const FlatIndexOptions& options);

  Status CheckVectors(std::span<const uint64_t> ids, std::span<const float> vectors) const;
  Status CheckForeign(int64_t begin, const ForeignRows& rows) const;
  void SetForeign(int64_t begin, const ForeignRows& rows);
  // Room for the rows [0, num_rows) of the last page, of which `num_used` are there.
  Status GrowLastPage(int64_t num_used, int64_t num_rows);
  // The row of a page that lies elsewhere and was not read yet.
  std::span<const float> CheckRow(const Page& page, int64_t row) const;
  // Whether the slots [begin, end) of a page may be read where they lie.
  bool CheckRows(int64_t begin, int64_t end) const;
  void ScanRange(const float* query, SlotFilter filter, int64_t begin, int64_t end,
                 TopK* best) const;

  const FlatIndexOptions options_;
  const int page_shift_;            // page_rows is 1 << page_shift_
  const std::vector<float> zeros_;  // [dim]
  std::vector<uint64_t> ids_;
  std::vector<Page> pages_;
  int64_t num_foreign_ = 0;
  mutable std::atomic<bool> is_damaged_ = false;
};

}  // namespace intarsia::index
