// Bound and design: none; this is the definition, bit by bit.
#include <cmath>
#include <string>
#include <vector>

#include "kernels/binary_batch_scan_cuda.h"
#include "kernels/binary_estimate.h"

namespace intarsia::kernels {
namespace {

int64_t ProductOf(const BinaryBatchScanCudaParams& params, int64_t row, int64_t query) {
  const BinaryRows& rows = params.rows;
  const uint32_t* const code = rows.codes + row * rows.row_words();
  const int64_t dim = rows.num_words * 64;
  int64_t product = 0;
  for (int64_t i = 0; i < dim; ++i) {
    int64_t x = 0;
    for (int64_t j = 0; j < rows.num_planes; ++j) {
      const uint32_t word = code[j * rows.plane_pieces() * 4 + i / 32];
      x += (int64_t{1} << j) * ((word >> (i % 32) & 1) != 0 ? 1 : -1);
    }
    product += x * params.queries[query * dim + i];
  }
  return product;
}

}  // namespace

Status CheckBinaryBatchScanCuda(const BinaryBatchScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRows(params.rows));
  INTARSIA_RETURN_IF_ERROR(CheckProspectLists(params.lists));
  if (params.lists.num_queries > 0 && (params.queries == nullptr || params.steps == nullptr ||
                                       params.bases == nullptr || params.error_bounds == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "binary batch scan: null pointer");
  }
  return Status::Ok();
}

Status BinaryBatchScanCudaReference(const BinaryBatchScanCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryBatchScanCuda(params));
  for (int64_t q = 0; q < params.lists.num_queries; ++q) {
    const BinaryQueryFactors query{params.steps[q], params.bases[q],
                                   BinaryErrorBoundOf(params.error_bounds[q])};
    std::vector<ProspectInterval> intervals;
    for (int64_t row = 0; row < params.rows.num_rows; ++row) {
      if (params.filter != nullptr &&
          (params.filter[row / kBinaryTileRows] >> (row % kBinaryTileRows) & 1) == 0) {
        continue;
      }
      const BinaryFactors factors{params.rows.scales[row], params.rows.offsets[row],
                                  params.rows.errors[row]};
      const float score =
          BinaryScoreOf(factors, query, static_cast<float>(ProductOf(params, row, q)));
      intervals.push_back({static_cast<int32_t>(row), BinaryLowerOf(factors, query, score),
                           BinaryLimitOf(factors, query, score)});
    }
    KeepProspectsReference(std::move(intervals), q, params.lists);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
