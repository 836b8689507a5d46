// HostCodeScanner: a CodeScanner in ordinary memory that scans by the definition of the kernels of
// devices, as the stand-in of a device in tests.
//
// Thread safety: as CodeScanner.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"
#include "index/code_scanner.h"
#include "kernels/binary_rows.h"
#include "kernels/binary_scan_cuda.h"

namespace intarsia::index {

class HostCodeScanner : public CodeScanner {
 public:
  int64_t num_rows() const override { return rows_.num_rows; }
  int64_t memory_bytes() const override {
    return rows_.code_bytes() + 3 * std::ssize(factors_[0]) * static_cast<int64_t>(sizeof(float));
  }
  int64_t BytesFor(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) const override {
    const kernels::BinaryRowsParams params{blocks, num_rows, nullptr, nullptr};
    return params.rows().code_bytes() + 3 * num_rows * static_cast<int64_t>(sizeof(float));
  }
  Status Extend(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) override {
    // A copy, so that a later change of the index does not show here.
    kernels::BinaryRowsParams params{blocks, num_rows, nullptr, nullptr};
    codes_.assign(static_cast<size_t>(params.rows().code_bytes() / 4) + 1, 0);
    bounds_.assign(static_cast<size_t>(params.rows().num_tiles()) + 1, {});
    params.codes = codes_.data();
    params.bounds = bounds_.data();
    const float* const sources[] = {blocks.scales, blocks.offsets, blocks.errors};
    for (size_t i = 0; i < 3; ++i) factors_[i].assign(sources[i], sources[i] + num_rows);
    params.scales = factors_[0].data();
    params.offsets = factors_[1].data();
    params.errors = factors_[2].data();
    INTARSIA_RETURN_IF_ERROR(kernels::BinaryRowsReference(params));
    rows_ = params.rows();
    return Status::Ok();
  }
  Result<CodeScanResult> Scan(const CodeScanParams& params) override {
    std::vector<uint32_t> filter;
    for (const uint64_t word : params.filter) {
      filter.push_back(static_cast<uint32_t>(word));
      filter.push_back(static_cast<uint32_t>(word >> 32));
    }
    kernels::ProspectOutcome outcome;
    std::vector<int32_t> found(static_cast<size_t>(params.candidates_max));
    std::vector<float> limits(found.size());
    kernels::BinaryScanCudaParams scan;
    scan.rows = rows_;
    scan.filter = filter.empty() ? nullptr : filter.data();
    scan.query_planes = params.query.planes;
    scan.half_step = params.query.half_step;
    scan.base = params.query.base;
    scan.error_bound = params.query.error_bound;
    scan.lists = {1, params.k, params.candidates_max, &outcome, found.data(), limits.data()};
    INTARSIA_RETURN_IF_ERROR(kernels::BinaryScanCudaReference(scan));
    CodeScanResult result;
    result.is_truncated = outcome.is_truncated != 0;
    for (size_t i = 0; i < static_cast<size_t>(outcome.num_prospects); ++i) {
      result.prospects.push_back({found[i], limits[i]});
    }
    std::sort(result.prospects.begin(), result.prospects.end(), IsMorePromising);
    return result;
  }

 private:
  std::vector<uint32_t> codes_;
  std::vector<kernels::BinaryTileBounds> bounds_;
  std::vector<float> factors_[3];
  kernels::BinaryRows rows_;
};

}  // namespace intarsia::index
