#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/gated_activation.h"
#include "kernels/quantize_rows.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRowsMax = int64_t{1} << 31;
constexpr int64_t kDimMax = int64_t{1} << 24;

}  // namespace

Status CheckGatedActivation(const GatedActivationParams& params) {
  if (params.num_rows < 0 || params.num_rows >= kRowsMax || params.dim < 1 ||
      params.dim > kDimMax) {
    return Status(StatusCode::kInvalidArgument,
                  "gated activation: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " dim=" + std::to_string(params.dim));
  }
  const bool is_fp8 = params.y == nullptr && params.y_fp8.codes != nullptr;
  if (params.dim % 8 != 0 || params.kind > Activation::kGeluErf ||
      (is_fp8 && params.dim > kFp8DimMax)) {
    return Status(StatusCode::kUnsupported,
                  "gated activation: unknown kind, or dim is no multiple of 8 or, for fp8, above " +
                      std::to_string(kFp8DimMax) + ": dim=" + std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  const bool is_good_output =
      is_fp8 ? IsVectorAligned(params.y_fp8.codes) && IsVectorAligned(params.y_fp8.scales)
             : IsVectorAligned(params.y) && params.y_fp8.codes == nullptr;
  if (!is_good_output || !IsVectorAligned(params.gate_up)) {
    return Status(StatusCode::kInvalidArgument, "gated activation: null or misaligned pointer");
  }
  return Status::Ok();
}

Status GatedActivationReference(const GatedActivationParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckGatedActivation(params));
  if (params.num_rows == 0) return Status::Ok();
  std::vector<float> gate_up(static_cast<size_t>(params.num_rows * 2 * params.dim));
  for (size_t i = 0; i < gate_up.size(); ++i) gate_up[i] = Bf16ToF32(params.gate_up[i]);
  std::vector<uint16_t> rounded(
      params.y == nullptr ? static_cast<size_t>(params.num_rows * params.dim) : 0);
  uint16_t* const y = params.y == nullptr ? rounded.data() : params.y;
  INTARSIA_RETURN_IF_ERROR(ActivateReference({.kind = params.kind,
                                              .x = gate_up.data(),
                                              .up = gate_up.data() + params.dim,
                                              .x_stride = 2 * params.dim,
                                              .y_bf16 = y,
                                              .num_rows = params.num_rows,
                                              .dim = params.dim}));
  if (params.y != nullptr) return Status::Ok();
  for (int64_t row = 0; row < params.num_rows; ++row) {
    QuantizeRow(y + row * params.dim, row, params.dim, params.y_fp8);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
