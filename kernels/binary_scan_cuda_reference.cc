// Bound and design: none; this is the definition, bit by bit.
#include <cmath>
#include <string>
#include <vector>

#include "kernels/binary_estimate.h"
#include "kernels/binary_scan_cuda.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kQueryPlanes = 4;

int64_t ProductOf(const BinaryScanCudaParams& params, int64_t row) {
  const BinaryRows& rows = params.rows;
  const uint32_t* const code = params.rows.codes + row * rows.row_words();
  int64_t product = 0;
  for (int64_t i = 0; i < rows.num_words * 64; ++i) {
    int64_t x = 0;
    for (int64_t j = 0; j < rows.num_planes; ++j) {
      const uint32_t word = code[j * rows.plane_pieces() * 4 + i / 32];
      x += (int64_t{1} << j) * ((word >> (i % 32) & 1) != 0 ? 1 : -1);
    }
    int64_t q = 0;
    for (int64_t p = 0; p < kQueryPlanes; ++p) {
      const uint64_t word = params.query_planes[p * rows.num_words + i / 64];
      q += (int64_t{1} << p) * ((word >> (i % 64) & 1) != 0 ? 1 : -1);
    }
    product += x * q;
  }
  return product;
}

}  // namespace

Status CheckBinaryScanCuda(const BinaryScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRows(params.rows));
  INTARSIA_RETURN_IF_ERROR(CheckProspectLists(params.lists));
  if (params.lists.num_queries != 1) {
    return Status(StatusCode::kInvalidArgument, "binary scan: it is of one query: num_queries=" +
                                                    std::to_string(params.lists.num_queries));
  }
  if (!(params.error_bound >= 0.0F) || std::isinf(params.error_bound)) {
    return Status(StatusCode::kInvalidArgument,
                  "binary scan: error bound out of range: " + std::to_string(params.error_bound));
  }
  if (params.query_planes == nullptr) {
    return Status(StatusCode::kInvalidArgument, "binary scan: null pointer");
  }
  return Status::Ok();
}

Status BinaryScanCudaReference(const BinaryScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryScanCuda(params));
  const BinaryQueryFactors query{params.half_step, params.base, params.error_bound};
  std::vector<ProspectInterval> intervals;
  for (int64_t row = 0; row < params.rows.num_rows; ++row) {
    if (params.filter != nullptr &&
        (params.filter[row / kBinaryTileRows] >> (row % kBinaryTileRows) & 1) == 0) {
      continue;
    }
    const BinaryFactors factors{params.rows.scales[row], params.rows.offsets[row],
                                params.rows.errors[row]};
    const float score = BinaryScoreOf(factors, query, static_cast<float>(ProductOf(params, row)));
    intervals.push_back({static_cast<int32_t>(row), BinaryLowerOf(factors, query, score),
                         BinaryLimitOf(factors, query, score)});
  }
  KeepProspectsReference(std::move(intervals), 0, params.lists);
  return Status::Ok();
}

}  // namespace intarsia::kernels
