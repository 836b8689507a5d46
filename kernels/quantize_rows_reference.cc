#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/quantize_rows.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRowsMax = int64_t{1} << 31;

}  // namespace

Status CheckQuantizeRows(const QuantizeRowsParams& params) {
  if (params.num_rows < 0 || params.num_rows >= kRowsMax || params.dim < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "quantize rows: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " dim=" + std::to_string(params.dim));
  }
  if (params.dim % 8 != 0 || params.dim > kFp8DimMax) {
    return Status(StatusCode::kUnsupported, "quantize rows: dim must be a multiple of 8 up to " +
                                                std::to_string(kFp8DimMax) +
                                                ": dim=" + std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.x) || !IsVectorAligned(params.y.codes) ||
      !IsVectorAligned(params.y.scales)) {
    return Status(StatusCode::kInvalidArgument, "quantize rows: null or misaligned pointer");
  }
  return Status::Ok();
}

void QuantizeRow(const uint16_t* x, int64_t row, int64_t dim, const Fp8Target& y) {
  float absmax = kE4m3AbsMaxMin;
  bool is_finite = true;
  for (int64_t i = 0; i < dim; ++i) {
    const float magnitude = std::fabs(Bf16ToF32(x[i]));
    is_finite = is_finite && std::isfinite(magnitude);
    absmax = std::max(absmax, magnitude);
  }
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  y.scales[row] = is_finite ? absmax / kE4m3Max : kNan;
  const float inverse = is_finite ? kE4m3Max / absmax : kNan;
  for (int64_t i = 0; i < dim; ++i) {
    y.codes[row * dim + i] = F32ToE4m3(Bf16ToF32(x[i]) * inverse);
  }
}

Status QuantizeRowsReference(const QuantizeRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckQuantizeRows(params));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    QuantizeRow(params.x + row * params.dim, row, params.dim, params.y);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
