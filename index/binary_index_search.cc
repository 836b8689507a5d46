// A search in four steps. Scan: estimate all vectors that pass the filter. Seed: compare the best
// estimates exactly, which gives a score that the k-th hit reaches at least. Select: keep the
// vectors whose estimate could still reach it. Rescore: compare them exactly, the best prospects
// first, and stop at the first that can no longer enter. No step depends on the number of threads.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "index/binary_index.h"
#include "kernels/binary_scan.h"
#include "kernels/dot_rows.h"

namespace intarsia::index {
namespace {

constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
constexpr int64_t kWordBlocks = 64 / kBlock;  // blocks that one word of a filter speaks for
// Slots searched by one thread at a time, a multiple of 64.
constexpr int64_t kRangeSlots = 16'384;
// Vectors compared exactly before the stop rule is asked again.
constexpr int64_t kBatch = 64;
constexpr float kErrorBoundMax = 100.0F;

// A vector that may be a hit: `limit` is the highest score that the error bound leaves it.
struct Prospect {
  int64_t slot = 0;
  float limit = 0.0F;
};

bool IsMorePromising(const Prospect& a, const Prospect& b) {
  return a.limit > b.limit || (a.limit == b.limit && a.slot < b.slot);
}

int64_t NumRanges(int64_t num_slots) { return (num_slots + kRangeSlots - 1) / kRangeSlots; }

// Calls body(range, worker) for all ranges of slots.
void ForRanges(int64_t num_slots, ThreadPool* pool,
               const std::function<void(int64_t range, int worker)>& body) {
  const int64_t num_ranges = NumRanges(num_slots);
  if (pool != nullptr && num_ranges > 1) {
    pool->ParallelFor(num_ranges, body);
  } else {
    for (int64_t range = 0; range < num_ranges; ++range) body(range, 0);
  }
}

// The slots of word `word` that pass `filter`, as bits.
uint64_t PassingSlots(SlotFilter filter, int64_t word, int64_t num_slots) {
  uint64_t bits = filter.empty() ? ~uint64_t{0} : filter[static_cast<size_t>(word)];
  if (num_slots - word * 64 < 64) bits &= (uint64_t{1} << (num_slots - word * 64)) - 1;
  return bits;
}

// Calls body(slot) for the slots of range `range` that pass `filter`.
template <typename Body>
void ForSlots(SlotFilter filter, int64_t range, int64_t num_slots, const Body& body) {
  const int64_t begin = range * kRangeSlots;
  const int64_t end = std::min(num_slots, begin + kRangeSlots);
  for (int64_t word = begin / 64; word * 64 < end; ++word) {
    uint64_t bits = PassingSlots(filter, word, num_slots);
    if (bits == ~uint64_t{0}) {
      for (int64_t slot = word * 64; slot < word * 64 + 64; ++slot) body(slot);
      continue;
    }
    for (; bits != 0; bits &= bits - 1) body(word * 64 + std::countr_zero(bits));
  }
}

// What the choice of prospects looks at.
struct Selection {
  const float* scores;  // by slot, of those that pass the filter
  const float* errors;  // by slot
  int64_t num_slots;
  const SearchParams& params;
  float bound;      // an estimate is off by at most its error times this
  float threshold;  // that a hit must reach
  const std::vector<Prospect>* seeds;
};

// The slots that could reach the threshold and are not among the seeds, in order.
std::vector<Prospect> Select(const Selection& selection) {
  std::vector<int64_t> taken;
  for (const Prospect& seed : *selection.seeds) taken.push_back(seed.slot);
  std::sort(taken.begin(), taken.end());
  std::vector<std::vector<Prospect>> found(static_cast<size_t>(NumRanges(selection.num_slots)));
  const auto select = [&](int64_t range, int /*worker*/) {
    ForSlots(selection.params.filter, range, selection.num_slots, [&](int64_t slot) {
      const float limit = selection.scores[slot] + selection.bound * selection.errors[slot];
      if (limit >= selection.threshold && !std::binary_search(taken.begin(), taken.end(), slot)) {
        found[static_cast<size_t>(range)].push_back({slot, limit});
      }
    });
  };
  ForRanges(selection.num_slots, selection.params.pool, select);
  std::vector<Prospect> prospects;
  for (const auto& part : found) prospects.insert(prospects.end(), part.begin(), part.end());
  return prospects;
}

// Compares vectors exactly and keeps the best.
class Rescorer {
 public:
  Rescorer(const FlatIndex& rows, const std::vector<float>& query, int64_t k)
      : rows_(rows), query_(query), best_(k) {}

  float threshold() const { return best_.threshold(); }
  std::vector<SearchHit> Take() { return best_.Take(); }

  // At most kBatch slots.
  void Add(std::span<const int64_t> slots) {
    if (slots.empty()) return;
    std::array<float, kBatch> scores{};
    kernels::DotRowsParams params;
    params.query = query_.data();
    params.rows = rows_.row(0).data();
    params.row_index = slots.data();
    params.num_rows = static_cast<int64_t>(slots.size());
    params.dim = rows_.dim();
    params.scores = scores.data();
    INTARSIA_CHECK(kernels::DotRows(params).ok());
    for (size_t i = 0; i < slots.size(); ++i) {
      best_.Push({rows_.ids()[static_cast<size_t>(slots[i])], scores[i]});
    }
  }

 private:
  const FlatIndex& rows_;
  const std::vector<float>& query_;
  TopK best_;
};

// Rescores `prospects`, sorted, until none can enter. Returns how many it compared.
int64_t Rescore(std::span<const Prospect> prospects, Rescorer* rescorer) {
  std::array<int64_t, kBatch> slots{};
  size_t done = 0;
  while (done < prospects.size() && prospects[done].limit >= rescorer->threshold()) {
    size_t count = 0;
    for (; count < slots.size() && done + count < prospects.size(); ++count) {
      slots[count] = prospects[done + count].slot;
    }
    rescorer->Add({slots.data(), count});
    done += count;
  }
  return static_cast<int64_t>(done);
}

}  // namespace

void BinaryIndex::EstimateBlocks(const Query& query, int64_t block_begin, int64_t block_end,
                                 float* scores) const {
  kernels::BinaryScanParams params;
  const int64_t slot = block_begin * kBlock;
  params.num_words = num_bits_ / 64;
  params.num_planes = bits_;
  params.num_blocks = block_end - block_begin;
  for (int32_t plane = 0; plane < bits_; ++plane) {
    params.planes[plane] = planes_[plane].data() + slot * params.num_words;
  }
  params.query_planes = query.planes.data();
  params.scales = scales_.data() + slot;
  params.offsets = offsets_.data() + slot;
  params.half_step = query.half_step;
  params.base = query.base;
  params.scores = scores;
  INTARSIA_CHECK(kernels::BinaryScan(params).ok());
}

std::vector<uint64_t> BinaryIndex::ScanAll(const Query& query, const SearchParams& params,
                                           int64_t num_best, float* scores,
                                           int64_t* num_scanned) const {
  const int64_t num_blocks = static_cast<int64_t>(scales_.size()) / kBlock;
  const int num_workers = params.pool == nullptr ? 1 : params.pool->num_threads();
  std::vector<TopK> bests(static_cast<size_t>(num_workers), TopK(num_best));
  std::vector<int64_t> counts(static_cast<size_t>(num_workers), 0);
  ForRanges(size(), params.pool, [&](int64_t range, int worker) {
    const int64_t word_end = std::min((range + 1) * kRangeSlots, size() + 63) / 64;
    for (int64_t word = range * kRangeSlots / 64; word < word_end; ++word) {
      if (PassingSlots(params.filter, word, size()) == 0) continue;
      int64_t end = word + 1;
      while (end < word_end && PassingSlots(params.filter, end, size()) != 0) ++end;
      EstimateBlocks(query, word * kWordBlocks, std::min(num_blocks, end * kWordBlocks),
                     scores + word * 64);
      word = end;  // The filter of this one is zero.
    }
    TopK& best = bests[static_cast<size_t>(worker)];
    int64_t& count = counts[static_cast<size_t>(worker)];
    ForSlots(params.filter, range, size(), [&](int64_t slot) {
      ++count;
      if (scores[slot] >= best.threshold()) {
        best.Push({static_cast<uint64_t>(slot), scores[slot]});
      }
    });
  });
  for (size_t i = 1; i < bests.size(); ++i) bests[0].Merge(bests[i]);
  *num_scanned = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<uint64_t> slots;
  for (const SearchHit& hit : bests[0].Take()) slots.push_back(hit.id);
  return slots;
}

Result<BinaryIndex::Estimates> BinaryIndex::EstimateAll(const FlatIndex& rows,
                                                        std::span<const float> query) const {
  INTARSIA_ASSIGN_OR_RETURN(std::vector<float> vector, rows.PrepareQuery(query));
  const Query prepared = MakeQuery(std::move(vector));
  Estimates estimates;
  estimates.scores.resize(scales_.size());
  EstimateBlocks(prepared, 0, static_cast<int64_t>(scales_.size()) / kBlock,
                 estimates.scores.data());
  estimates.scores.resize(static_cast<size_t>(size()));
  estimates.standard_errors.assign(errors_.begin(), errors_.begin() + size());
  for (float& error : estimates.standard_errors) error *= prepared.error_factor;
  return estimates;
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
  return Status::Ok();
}

Result<BinarySearchResult> BinaryIndex::Search(const FlatIndex& rows, const SearchParams& params,
                                               const BinarySearchOptions& options) const {
  INTARSIA_RETURN_IF_ERROR(CheckSearch(rows, params, options));
  INTARSIA_ASSIGN_OR_RETURN(std::vector<float> vector, rows.PrepareQuery(params.query));
  BinarySearchResult result;
  if (size() == 0) return result;
  const Query query = MakeQuery(std::move(vector));

  const int64_t candidates_max = std::max(params.k, options.candidates_max);
  const int64_t num_seeds = std::min(candidates_max, std::max(2 * params.k, kBatch));
  const auto scores = std::make_unique_for_overwrite<float[]>(scales_.size());
  std::vector<Prospect> seeds;
  for (const uint64_t slot : ScanAll(query, params, num_seeds, scores.get(), &result.num_scanned)) {
    seeds.push_back({static_cast<int64_t>(slot), std::numeric_limits<float>::infinity()});
  }
  Rescorer rescorer(rows, query.vector, params.k);
  result.num_rescored = Rescore(seeds, &rescorer);

  const Selection selection{scores.get(),
                            errors_.data(),
                            size(),
                            params,
                            options.error_bound * query.error_factor,
                            rescorer.threshold(),
                            &seeds};
  std::vector<Prospect> prospects = Select(selection);
  const int64_t room = candidates_max - num_seeds;
  std::sort(prospects.begin(), prospects.end(), IsMorePromising);
  const bool is_long = static_cast<int64_t>(prospects.size()) > room;
  const Prospect left_out = is_long ? prospects[static_cast<size_t>(room)] : Prospect{};
  if (is_long) prospects.resize(static_cast<size_t>(room));
  result.num_rescored += Rescore(prospects, &rescorer);
  result.is_truncated = is_long && left_out.limit >= rescorer.threshold();
  result.hits = rescorer.Take();
  return result;
}

}  // namespace intarsia::index
