// Bound and design: none; this is the definition, bit by bit.
#include "kernels/binary_batch_scan_cuda.h"
#include "kernels/binary_estimate.h"
#include "kernels/binary_row_scan.h"

namespace intarsia::kernels {
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
    BinaryRowScanReference(
        {.rows = params.rows,
         .filter = params.filter,
         .query = params.queries + q * params.rows.num_words * 64,
         .factors = {params.steps[q], params.bases[q], BinaryErrorBoundOf(params.error_bounds[q])},
         .index = q,
         .lists = params.lists});
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
