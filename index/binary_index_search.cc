// A search in four steps. Scan: estimate all vectors that pass the filter, and keep those that may
// be among the k best. Refine: if the query was rounded to one bit, estimate these again with the
// query in full. Rescore: compare them exactly, the most promising first, and stop at the first
// that can no longer enter. No step depends on the number of threads.
#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/stopwatch.h"
#include "index/binary_index.h"
#include "index/scan_parts.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {
namespace {

constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
// Blocks scanned by one call of the kernel, whose scores stay in the first cache.
constexpr int64_t kTileBlocks = 64;
constexpr float kErrorBoundMax = 100.0F;

int64_t CountPassing(SlotFilter filter, int64_t num_slots) {
  if (filter.empty()) return num_slots;
  int64_t count = 0;
  for (int64_t word = 0; word < num_slots / 64; ++word) {
    count += std::popcount(filter[static_cast<size_t>(word)]);
  }
  for (int64_t block = num_slots / 64 * 64 / kBlock; block * kBlock < num_slots; ++block) {
    count += std::popcount(PassingSlots(filter, block, num_slots));
  }
  return count;
}

// Products of a vector with planes of signs: for each eight dimensions the sums of all patterns.
class SignProducts {
 public:
  explicit SignProducts(std::span<const float> vector) : sums_(vector.size() / 8 * kPatterns) {
    for (size_t group = 0; group < vector.size() / 8; ++group) {
      float* const sums = sums_.data() + group * kPatterns;
      const float* const values = vector.data() + group * 8;
      for (int i = 0; i < 8; ++i) sums[0] -= values[i];
      for (uint32_t pattern = 1; pattern < kPatterns; ++pattern) {
        sums[pattern] = sums[pattern & (pattern - 1)] + 2.0F * values[std::countr_zero(pattern)];
      }
    }
  }
  // The product with the signs of dimensions [64 * word, 64 * word + 64).
  float Of(uint64_t signs, size_t word) const {
    const float* const sums = sums_.data() + word * 8 * kPatterns;
    float product = 0.0F;
    for (size_t i = 0; i < 8; ++i) product += sums[i * kPatterns + ((signs >> (8 * i)) & 0xFF)];
    return product;
  }

 private:
  static constexpr uint32_t kPatterns = 256;
  std::vector<float> sums_;  // [dim / 8, 256]
};

}  // namespace

kernels::BinaryCodeBlocks BinaryIndex::CodeBlocks(int64_t begin, int64_t end) const {
  kernels::BinaryCodeBlocks blocks;
  const int64_t slot = begin * kBlock;
  blocks.num_words = num_bits_ / 64;
  blocks.num_planes = bits_;
  blocks.num_blocks = end - begin;
  for (int32_t plane = 0; plane < bits_; ++plane) {
    blocks.planes[plane] = planes_[plane].data() + slot * blocks.num_words;
  }
  blocks.scales = scales_.data() + slot;
  blocks.offsets = offsets_.data() + slot;
  blocks.errors = errors_.data() + slot;
  return blocks;
}

kernels::BinaryScanParams BinaryIndex::ScanParams(const Query& query, int64_t block_begin,
                                                  int64_t block_end) const {
  kernels::BinaryScanParams params{CodeBlocks(block_begin, block_end)};
  params.query_planes = query.planes.data();
  params.num_query_planes = query.num_planes;
  params.half_step = query.half_step;
  params.base = query.base;
  return params;
}

std::vector<Prospect> BinaryIndex::ScanAll(const Query& query, const SearchParams& params,
                                           float error_bound, int64_t* num_scanned) const {
  const int64_t num_blocks = std::ssize(scales_) / kBlock;
  const int num_workers = params.pool == nullptr ? 1 : params.pool->num_threads();
  std::vector<ProspectList> lists(static_cast<size_t>(num_workers), ProspectList(params.k));
  std::vector<int64_t> counts(static_cast<size_t>(num_workers), 0);
  SharedThreshold shared;
  const float error_factor = error_bound * query.error_factor;
  ForRanges(size(), params.pool, [&](int64_t range, int worker) {
    ProspectList& list = lists[static_cast<size_t>(worker)];
    int64_t& count = counts[static_cast<size_t>(worker)];
    std::array<float, kTileBlocks * kBlock> scores;
    std::array<uint8_t, kTileBlocks> survivors;
    const int64_t end = std::min(num_blocks, (range + 1) * kRangeSlots / kBlock);
    for (int64_t begin = range * kRangeSlots / kBlock; begin < end;) {
      // Runs of blocks in which some slot passes.
      int64_t tile_end = begin;
      for (; tile_end < std::min(end, begin + kTileBlocks); ++tile_end) {
        const uint32_t passing = PassingSlots(params.filter, tile_end, size());
        if (passing == 0) break;
        count += std::popcount(passing);
      }
      if (tile_end == begin) {
        ++begin;
        continue;
      }
      kernels::BinaryScanParams scan = ScanParams(query, begin, tile_end);
      scan.scores = scores.data();
      scan.survivors = survivors.data();
      scan.error_bound = error_factor;
      scan.threshold = std::max(list.threshold(), shared.value());
      INTARSIA_CHECK(kernels::BinaryScan(scan).ok());
      for (int64_t block = begin; block < tile_end; ++block) {
        uint32_t bits = survivors[static_cast<size_t>(block - begin)];
        if (bits == 0) continue;
        bits &= PassingSlots(params.filter, block, size());
        for (; bits != 0; bits &= bits - 1) {
          const int64_t slot = block * kBlock + std::countr_zero(bits);
          list.Add(slot, scores[static_cast<size_t>(slot - begin * kBlock)],
                   error_factor * errors_[static_cast<size_t>(slot)]);
        }
      }
      shared.RaiseTo(list.threshold());
      begin = tile_end;
    }
  });
  for (size_t i = 1; i < lists.size(); ++i) lists[0].Merge(lists[i]);
  *num_scanned = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  return lists[0].Take();
}

Result<std::vector<Prospect>> BinaryIndex::ScanElsewhere(const Query& query,
                                                         const SearchParams& params,
                                                         const BinarySearchOptions& options,
                                                         BinarySearchResult* result) const {
  INTARSIA_ASSIGN_OR_RETURN(
      CodeScanResult scanned,
      options.scanner->Scan({.query = {.planes = query.planes.data(),
                                       .half_step = query.half_step,
                                       .base = query.base,
                                       .error_bound = options.error_bound * query.error_factor},
                             .filter = params.filter,
                             .k = params.k,
                             .candidates_max = std::max(params.k, options.candidates_max)}));
  result->num_scanned = CountPassing(params.filter, size());
  result->is_truncated = scanned.is_truncated;
  return std::move(scanned.prospects);
}

std::vector<Prospect> BinaryIndex::Refine(const Query& query,
                                          const std::vector<Prospect>& prospects, int64_t k,
                                          float error_bound) const {
  const SignProducts products(query.rotated);
  ProspectList list(k);
  for (const Prospect& prospect : prospects) {
    float product = 0.0F;
    for (int32_t plane = 0; plane < bits_; ++plane) {
      for (int64_t w = 0; w < num_bits_ / 64; ++w) {
        const uint64_t signs = planes_[plane].data()[WordAt(prospect.slot, w)];
        product += static_cast<float>(1 << plane) * products.Of(signs, static_cast<size_t>(w));
      }
    }
    const auto at = static_cast<size_t>(prospect.slot);
    list.Add(prospect.slot, scales_[at] * product + offsets_[at] + query.base,
             error_bound * query.whole_error_factor * errors_[at]);
  }
  return list.Take();
}

Result<BinaryIndex::Estimates> BinaryIndex::EstimateAll(const FlatIndex& rows,
                                                        std::span<const float> query,
                                                        int32_t query_bits) const {
  INTARSIA_RETURN_IF_ERROR(CheckQueryBits(query_bits));
  INTARSIA_ASSIGN_OR_RETURN(std::vector<float> vector, rows.PrepareQuery(query));
  const Query prepared = MakeQuery(std::move(vector), query_bits);
  Estimates estimates;
  estimates.scores.resize(scales_.size());
  kernels::BinaryScanParams params = ScanParams(prepared, 0, std::ssize(scales_) / kBlock);
  params.scores = estimates.scores.data();
  INTARSIA_CHECK(kernels::BinaryScan(params).ok());
  estimates.scores.resize(static_cast<size_t>(size()));
  estimates.standard_errors.assign(errors_.begin(), errors_.begin() + size());
  for (float& error : estimates.standard_errors) error *= prepared.error_factor;
  return estimates;
}

Status BinaryIndex::CheckQueryBits(int32_t query_bits) {
  if (query_bits == 1 || query_bits == 4) return Status::Ok();
  return Status(StatusCode::kInvalidArgument, "bits of a query out of range: query_bits=" +
                                                  std::to_string(query_bits) + ", want 1 or 4");
}

Status BinaryIndex::CheckSearch(const FlatIndex& rows, const SearchParams& params,
                                const BinarySearchOptions& options) const {
  INTARSIA_RETURN_IF_ERROR(rows.CheckParams(params));
  if (rows.dim() != dim_ || rows.size() != size()) {
    return Status(StatusCode::kInvalidArgument,
                  "binary index is not in step with its vectors: dim=" + std::to_string(dim_) +
                      "/" + std::to_string(rows.dim()) + " size=" + std::to_string(size()) + "/" +
                      std::to_string(rows.size()));
  }
  if (!(options.error_bound >= 0.0F && options.error_bound <= kErrorBoundMax)) {
    return Status(StatusCode::kInvalidArgument,
                  "error bound out of range: error_bound=" + std::to_string(options.error_bound) +
                      " min=0 max=" + std::to_string(kErrorBoundMax));
  }
  if (options.candidates_max < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "number of candidates out of range: candidates_max=" +
                      std::to_string(options.candidates_max) + " min=1");
  }
  if (options.scanner != nullptr && options.scanner->num_rows() != size()) {
    return Status(StatusCode::kInvalidArgument,
                  "a scanner is not in step with the codes: size=" + std::to_string(size()) + "/" +
                      std::to_string(options.scanner->num_rows()));
  }
  return Status::Ok();
}

Result<BinarySearchResult> BinaryIndex::Search(const FlatIndex& rows, const SearchParams& params,
                                               const BinarySearchOptions& options) const {
  INTARSIA_RETURN_IF_ERROR(CheckSearch(rows, params, options));
  INTARSIA_RETURN_IF_ERROR(CheckQueryBits(options.query_bits));
  INTARSIA_ASSIGN_OR_RETURN(std::vector<float> vector, rows.PrepareQuery(params.query));
  BinarySearchResult result;
  if (size() == 0) return result;
  const bool is_elsewhere = options.scanner != nullptr;
  const Stopwatch stopwatch;
  const Query query = MakeQuery(std::move(vector), is_elsewhere ? 4 : options.query_bits);
  std::vector<Prospect> prospects;
  if (is_elsewhere) {
    INTARSIA_ASSIGN_OR_RETURN(prospects, ScanElsewhere(query, params, options, &result));
  } else {
    prospects = ScanAll(query, params, options.error_bound, &result.num_scanned);
  }
  result.num_prospects = std::ssize(prospects);
  result.scan_ms = stopwatch.milliseconds();
  if (query.num_planes == 1) {
    prospects = Refine(query, prospects, params.k, options.error_bound);
  }
  const int64_t candidates_max = std::max(params.k, options.candidates_max);
  const bool is_long = std::ssize(prospects) > candidates_max;
  // What was left out is no more promising than this one.
  const Prospect left_out = is_long               ? prospects[static_cast<size_t>(candidates_max)]
                            : result.is_truncated ? prospects.back()
                                                  : Prospect{};
  if (is_long) prospects.resize(static_cast<size_t>(candidates_max));
  Rescorer rescorer(rows, query.vector, params.k);
  result.num_rescored = rescorer.Run(prospects);
  result.is_truncated = (is_long || result.is_truncated) && left_out.limit >= rescorer.threshold();
  INTARSIA_RETURN_IF_ERROR(rows.CheckDamage());
  result.hits = rescorer.Take();
  result.rescore_ms = stopwatch.milliseconds() - result.scan_ms;
  return result;
}

}  // namespace intarsia::index
