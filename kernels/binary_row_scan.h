// BinaryRowScan: the scan of codes on a device for one query, as both of its kernels define it.
//
// Thread safety: may be called concurrently on distinct lists.
#pragma once

#include <cstdint>

#include "kernels/binary_estimate.h"
#include "kernels/binary_rows.h"
#include "kernels/prospects.h"

namespace intarsia::kernels {

struct BinaryRowScanParams {
  BinaryRows rows;
  const uint32_t* filter = nullptr;  // [num_tiles], a bit a row, the lowest first; null: all
  const int8_t* query = nullptr;     // [num_words * 64]
  BinaryQueryFactors factors;
  int64_t index = 0;  // of the query in `lists`
  ProspectLists lists;
};

// Computes what each row that the filter lets through may score, and keeps the prospects.
void BinaryRowScanReference(const BinaryRowScanParams& params);

}  // namespace intarsia::kernels
