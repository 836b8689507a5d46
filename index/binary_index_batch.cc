// A search for many queries: the steps of binary_index_search.cc for dozens of queries at a time.
// The codes of some blocks meet all queries of a pass before the next blocks are read, so codes
// come from memory once a pass and the queries stay in the cache.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "index/binary_index.h"
#include "index/scan_parts.h"
#include "kernels/binary_batch_scan.h"

namespace intarsia::index {
namespace {

constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
constexpr int64_t kGroup = kernels::kBatchGroupQueries;
// Queries of a pass.
constexpr int64_t kPassQueries = 64;
constexpr int64_t kPassGroups = kPassQueries / kGroup;
// Blocks scanned by one call of the kernel, whose scores stay in the first cache.
constexpr int64_t kTileBlocks = 8;

}  // namespace

struct BinaryIndex::Batch {
  int64_t num_queries = 0;  // at most kPassQueries
  int64_t num_groups = 0;
  std::vector<std::vector<float>> vectors;  // as FlatIndex::PrepareQuery() returns them
  AlignedArray<int8_t> levels;              // [num_groups, num_bits / 4, 16, 4]
  // What follows is [num_groups, 16]; what fills up the last group finds nothing.
  std::vector<float> steps;
  std::vector<float> bases;
  std::vector<int32_t> sums;
  std::vector<float> error_factors;
};

Result<BinaryIndex::Batch> BinaryIndex::MakeBatch(const FlatIndex& rows,
                                                  std::span<const float> queries, int64_t begin,
                                                  int64_t end) const {
  Batch batch;
  batch.num_queries = end - begin;
  batch.num_groups = (batch.num_queries + kGroup - 1) / kGroup;
  const auto num_padded = static_cast<size_t>(batch.num_groups * kGroup);
  batch.levels = AlignedArray<int8_t>(batch.num_groups * kGroup * num_bits_);
  std::fill_n(batch.levels.data(), batch.levels.size(), int8_t{0});
  for (auto* factors : {&batch.steps, &batch.bases, &batch.error_factors}) {
    factors->assign(num_padded, 0.0F);
  }
  batch.sums.assign(num_padded, 0);
  for (int64_t number = begin; number < end; ++number) {
    auto prepared = rows.PrepareQuery(
        queries.subspan(static_cast<size_t>(number * dim_), static_cast<size_t>(dim_)));
    if (!prepared.ok()) {
      return Status(prepared.status().code(),
                    std::string(prepared.status().message()) + " query=" + std::to_string(number));
    }
    Query query = RotateQuery(*std::move(prepared));
    const auto at = static_cast<size_t>(number - begin);
    float largest = 0.0F;
    for (const float value : query.rotated) largest = std::max(largest, std::fabs(value));
    const float step = largest / static_cast<float>(kernels::kBatchLevelMax);
    double rounding_square = 0.0;
    if (step > 0.0F) {
      const int64_t group = static_cast<int64_t>(at) / kGroup;
      const int64_t lane = static_cast<int64_t>(at) % kGroup;
      for (int64_t i = 0; i < num_bits_; ++i) {
        const float value = query.rotated[static_cast<size_t>(i)];
        const auto level = static_cast<int32_t>(std::lrintf(value / step));
        batch.levels[((group * num_bits_ / 4 + i / 4) * kGroup + lane) * 4 + i % 4] =
            static_cast<int8_t>(level);
        batch.sums[at] += level;
        const float error = value - step * static_cast<float>(level);
        rounding_square += static_cast<double>(error) * error;
      }
    }
    batch.steps[at] = step;
    batch.bases[at] = query.base;
    batch.error_factors[at] = ErrorFactor(query.whole_error_factor, rounding_square);
    batch.vectors.push_back(std::move(query.vector));
  }
  return batch;
}

kernels::BinaryBatchScanParams BinaryIndex::BatchScanParams(const Batch& batch, int64_t block_begin,
                                                            int64_t block_end) const {
  kernels::BinaryBatchScanParams scan{CodeBlocks(block_begin, block_end)};
  scan.num_groups = batch.num_groups;
  scan.queries = batch.levels.data();
  scan.steps = batch.steps.data();
  scan.bases = batch.bases.data();
  scan.sums = batch.sums.data();
  return scan;
}

std::vector<std::vector<Prospect>> BinaryIndex::ScanBatch(const Batch& batch,
                                                          const BatchSearchParams& params,
                                                          float error_bound) const {
  const int64_t num_blocks = std::ssize(scales_) / kBlock;
  const int num_workers = params.pool == nullptr ? 1 : params.pool->num_threads();
  const auto num_queries = static_cast<size_t>(batch.num_queries);
  std::vector<std::vector<ProspectList>> lists(
      static_cast<size_t>(num_workers),
      std::vector<ProspectList>(num_queries, ProspectList(params.k)));
  std::array<SharedThreshold, kPassQueries> shared;
  std::array<float, kPassQueries> error_bounds{};
  for (size_t i = 0; i < num_queries; ++i) error_bounds[i] = error_bound * batch.error_factors[i];
  ForRanges(size(), params.pool, [&](int64_t range, int worker) {
    std::vector<ProspectList>& own = lists[static_cast<size_t>(worker)];
    std::array<float, kPassQueries> thresholds;
    thresholds.fill(std::numeric_limits<float>::infinity());
    std::array<float, kTileBlocks * kBlock * kPassQueries> scores;
    std::array<uint16_t, kTileBlocks * kBlock * kPassGroups> survivors;
    const int64_t end = std::min(num_blocks, (range + 1) * kRangeSlots / kBlock);
    for (int64_t begin = range * kRangeSlots / kBlock; begin < end;) {
      // Runs of blocks in which some slot passes.
      int64_t tile_end = begin;
      while (tile_end < std::min(end, begin + kTileBlocks) &&
             PassingSlots(params.filter, tile_end, size()) != 0) {
        ++tile_end;
      }
      if (tile_end == begin) {
        ++begin;
        continue;
      }
      for (size_t i = 0; i < num_queries; ++i) {
        thresholds[i] = std::max(own[i].threshold(), shared[i].value());
      }
      kernels::BinaryBatchScanParams scan = BatchScanParams(batch, begin, tile_end);
      scan.error_bounds = error_bounds.data();
      scan.thresholds = thresholds.data();
      scan.scores = scores.data();
      scan.survivors = survivors.data();
      INTARSIA_CHECK(kernels::BinaryBatchScan(scan).ok());
      const int64_t first = begin * kBlock;
      const int64_t num_padded = batch.num_groups * kGroup;
      for (int64_t slot = first; slot < tile_end * kBlock; ++slot) {
        const uint32_t passing = PassingSlots(params.filter, slot / kBlock, size());
        if ((passing >> (slot % kBlock) & 1) == 0) continue;
        const int64_t row = slot - first;
        for (int64_t group = 0; group < batch.num_groups; ++group) {
          uint32_t bits = survivors[static_cast<size_t>(row * batch.num_groups + group)];
          for (; bits != 0; bits &= bits - 1) {
            const auto query = static_cast<size_t>(group * kGroup + std::countr_zero(bits));
            own[query].Add(slot, scores[static_cast<size_t>(row * num_padded) + query],
                           error_bounds[query] * errors_[static_cast<size_t>(slot)]);
          }
        }
      }
      for (size_t i = 0; i < num_queries; ++i) shared[i].RaiseTo(own[i].threshold());
      begin = tile_end;
    }
  });
  std::vector<std::vector<Prospect>> prospects;
  for (size_t i = 0; i < num_queries; ++i) {
    for (size_t worker = 1; worker < lists.size(); ++worker) lists[0][i].Merge(lists[worker][i]);
    prospects.push_back(lists[0][i].Take());
  }
  return prospects;
}

Result<std::vector<std::vector<SearchHit>>> BinaryIndex::SearchBatch(
    const FlatIndex& rows, const BatchSearchParams& params,
    const BinarySearchOptions& options) const {
  const auto num_values = std::ssize(params.queries);
  if (num_values == 0) return std::vector<std::vector<SearchHit>>{};
  if (num_values % dim_ != 0) {
    return Status(StatusCode::kInvalidArgument,
                  "queries of a batch have another size than the vectors: values=" +
                      std::to_string(num_values) + " dim=" + std::to_string(dim_));
  }
  INTARSIA_RETURN_IF_ERROR(CheckSearch(rows,
                                       {.query = params.queries.first(static_cast<size_t>(dim_)),
                                        .k = params.k,
                                        .filter = params.filter},
                                       options));
  const int64_t num_queries = num_values / dim_;
  const int64_t candidates_max = std::max(params.k, options.candidates_max);
  std::vector<std::vector<SearchHit>> hits(static_cast<size_t>(num_queries));
  for (int64_t begin = 0; begin < num_queries; begin += kPassQueries) {
    INTARSIA_ASSIGN_OR_RETURN(
        const Batch batch,
        MakeBatch(rows, params.queries, begin, std::min(num_queries, begin + kPassQueries)));
    if (size() == 0) continue;
    const std::vector<std::vector<Prospect>> prospects =
        ScanBatch(batch, params, options.error_bound);
    const auto rescore = [&](int64_t i, int /*worker*/) {
      const auto at = static_cast<size_t>(i);
      const auto count = std::min(std::ssize(prospects[at]), candidates_max);
      Rescorer rescorer(rows, batch.vectors[at], params.k);
      rescorer.Run(std::span(prospects[at]).first(static_cast<size_t>(count)));
      hits[static_cast<size_t>(begin) + at] = rescorer.Take();
    };
    if (params.pool != nullptr) {
      params.pool->ParallelFor(batch.num_queries, rescore);
    } else {
      for (int64_t i = 0; i < batch.num_queries; ++i) rescore(i, 0);
    }
  }
  INTARSIA_RETURN_IF_ERROR(rows.CheckDamage());
  return hits;
}

}  // namespace intarsia::index
