// Bound and design: none; this is the definition, in double precision.
#include "kernels/dot_rows.h"

namespace intarsia::kernels {

Status DotRowsReference(const DotRowsParams& params) {
  if (params.num_rows < 0 || params.dim < 1) {
    return Status(StatusCode::kInvalidArgument, "dot rows: size out of range");
  }
  if (params.num_rows == 0) return Status::Ok();
  if (params.query == nullptr || params.scores == nullptr ||
      (params.rows == nullptr && params.row_pointers == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "dot rows: null pointer");
  }
  for (int64_t i = 0; i < params.num_rows; ++i) {
    const float* const row =
        params.row_pointers != nullptr ? params.row_pointers[i] : params.rows + i * params.dim;
    double sum = 0.0;
    for (int64_t d = 0; d < params.dim; ++d) {
      sum += static_cast<double>(params.query[d]) * row[d];
    }
    params.scores[i] = static_cast<float>(sum);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
