#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/gated_activation.h"

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
  if (params.dim % 8 != 0 || params.kind > Activation::kGeluErf) {
    return Status(StatusCode::kUnsupported,
                  "gated activation: unknown kind, or dim is no multiple of 8: dim=" +
                      std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.gate_up) || !IsVectorAligned(params.y)) {
    return Status(StatusCode::kInvalidArgument, "gated activation: null or misaligned pointer");
  }
  return Status::Ok();
}

Status GatedActivationReference(const GatedActivationParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckGatedActivation(params));
  if (params.num_rows == 0) return Status::Ok();
  std::vector<float> gate_up(static_cast<size_t>(params.num_rows * 2 * params.dim));
  for (size_t i = 0; i < gate_up.size(); ++i) gate_up[i] = Bf16ToF32(params.gate_up[i]);
  return ActivateReference({.kind = params.kind,
                            .x = gate_up.data(),
                            .up = gate_up.data() + params.dim,
                            .x_stride = 2 * params.dim,
                            .y_bf16 = params.y,
                            .num_rows = params.num_rows,
                            .dim = params.dim});
}

}  // namespace intarsia::kernels
