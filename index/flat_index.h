// FlatIndex: vectors in one dense array, searched exactly by comparing all of them.
//
// It is the truth that every other vector index is built from and rescored by. A vector's place in
// the array is its slot, in [0, size()). Removing a vector moves the last one into its slot, so the
// array has no holes and a scan no dead rows; a filter is a bitmap over slots and holds until the
// next Add or Remove.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

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
};

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
  // The vector in `slot`, as it is kept [dim]. REQUIRES: 0 <= slot < size().
  std::span<const float> row(int64_t slot) const;
  std::optional<int64_t> SlotOf(uint64_t id) const;

  // Adds vectors [ids.size(), dim] in new slots at the end, all or none.
  // Errors: kAlreadyExists if an id is there or comes twice; kInvalidArgument if the sizes do not
  // match, or a vector holds NaN or infinity, or has no length or one above 1e18. The message names
  // the id.
  Status Add(std::span<const uint64_t> ids, std::span<const float> vectors);

  // Removes a vector. Returns the slot that it had, into which the last vector has moved.
  // Errors: kNotFound.
  Result<int64_t> Remove(uint64_t id);

  // A bitmap for SearchParams::filter with the slots of those `ids` that are in the index.
  std::vector<uint64_t> FilterOf(std::span<const uint64_t> ids) const;

  // The query as it is compared: a copy, of unit length under kCosine.
  // Errors: kInvalidArgument if its size is wrong, or it is not finite or has no length.
  Result<std::vector<float>> PrepareQuery(std::span<const float> query) const;

  // The k vectors with the highest inner product (the cosine under kCosine), best first, ties by
  // lower id. Fewer than k if fewer pass the filter. Exact.
  // Errors: kInvalidArgument for a bad query (see PrepareQuery), k or filter.
  Result<std::vector<SearchHit>> Search(const SearchParams& params) const;

  // Checks k and filter as Search() does.
  Status CheckParams(const SearchParams& params) const;

 private:
  explicit FlatIndex(const FlatIndexOptions& options) : options_(options) {}

  Status CheckVectors(std::span<const uint64_t> ids, std::span<const float> vectors) const;
  void ScanRange(const float* query, SlotFilter filter, int64_t begin, int64_t end,
                 TopK* best) const;

  FlatIndexOptions options_;  // Immutable after construction.
  std::vector<uint64_t> ids_;
  std::vector<float> rows_;  // [size(), dim]
  std::unordered_map<uint64_t, int64_t> slots_;
};

}  // namespace intarsia::index
