// BinaryBatchScan: estimated inner products of many queries with codes of one or two bits.
//
// What binary_scan.h does for one query, for a batch: a query is kept in 8 bits a dimension instead
// of 4, and a code is unpacked once for all queries, so that a product is a sum of products of
// bytes. A code stands for the same vector x as there, {-1, 1} or {-3, -1, 1, 3}, and a query for
// whole numbers q_i from -127 to 127 times its `step`:
//   score    = scale * (step * <x, q>) + offset + base
//   survivor = score + error_bound * error >= threshold      (the last four of each query)
//
// Queries come in groups of 16, four dimensions of all of them together, so that a vector holds the
// same dimensions of several queries and nothing is ever added across lanes.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/binary_scan.h"

namespace intarsia::kernels {

inline constexpr int64_t kBatchGroupQueries = 16;
inline constexpr int32_t kBatchLevelMax = 127;  // of a query's whole numbers

struct BinaryBatchScanParams : BinaryCodeBlocks {
  int64_t num_groups = 0;               // of queries
  const int8_t* queries = nullptr;      // [num_groups, num_words * 16, 16 queries, 4 dimensions]
  const float* steps = nullptr;         // [num_groups, 16]
  const float* bases = nullptr;         // [num_groups, 16]
  const int32_t* sums = nullptr;        // [num_groups, 16], of each query's whole numbers
  const float* error_bounds = nullptr;  // [num_groups, 16]
  const float* thresholds = nullptr;    // [num_groups, 16]

  // The results, which alias nothing. A NaN in a score's way leaves its survivor's bit clear.
  float* scores = nullptr;        // [num_blocks, 8, num_groups, 16]
  uint16_t* survivors = nullptr;  // [num_blocks, 8, num_groups], a bit a query, the lowest first
};

// What both forms refuse: kInvalidArgument for a null pointer or a size out of range.
Status CheckBinaryBatchScan(const BinaryBatchScanParams& params);

// Errors: those of CheckBinaryBatchScan().
Status BinaryBatchScan(const BinaryBatchScanParams& params);

// The definition: sums over single bits, double arithmetic for the score.
Status BinaryBatchScanReference(const BinaryBatchScanParams& params);

}  // namespace intarsia::kernels
