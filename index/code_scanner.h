// CodeScanner: a copy of a BinaryIndex's codes where something else than the CPU scans them.
//
// The codes of the index stay where they are and remain the truth; a scanner follows them by
// Extend(). What a scan keeps is what the scan of the CPU keeps, up to the rounding of floats: all
// vectors that, by their intervals, can be among the k best.
//
// Thread safety: Scan() may be called concurrently, nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "index/flat_index.h"
#include "index/prospect_list.h"
#include "kernels/binary_scan.h"

namespace intarsia::index {

// A query of four bits a dimension, as kernels/binary_scan.h has it.
struct ScannedQuery {
  const uint64_t* planes = nullptr;  // [4, num_words], lowest first
  float half_step = 0.0F;
  float base = 0.0F;
  float error_bound = 0.0F;  // a score is off by at most so many times its code's error
};

struct CodeScanParams {
  ScannedQuery query;
  SlotFilter filter = {};       // as in SearchParams
  int64_t k = 10;               // at most candidates_max
  int64_t candidates_max = 10;  // of the prospects so many are kept, the most promising
};

struct CodeScanResult {
  std::vector<Prospect> prospects;  // the most promising first
  bool is_truncated = false;        // candidates_max left some out
};

class CodeScanner {
 public:
  virtual ~CodeScanner() = default;

  virtual int64_t num_rows() const = 0;
  virtual int64_t memory_bytes() const = 0;
  // What it would take with so many rows of this shape.
  virtual int64_t BytesFor(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) const = 0;

  // Takes up all blocks of the index, of which the first num_rows() codes are those that it has.
  // Errors: kResourceExhausted if there is no memory, kUnsupported if there is no way to scan such
  // codes, kInternal if the device fails. It must not be used after an error.
  virtual Status Extend(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) = 0;

  // REQUIRES: num_rows() > 0. Errors: as Extend.
  virtual Result<CodeScanResult> Scan(const CodeScanParams& params) = 0;
};

}  // namespace intarsia::index
