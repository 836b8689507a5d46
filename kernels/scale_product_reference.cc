#include <string>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/scale_product.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kSizeMax = int64_t{1} << 31;

}  // namespace

Status CheckScaleProduct(const ScaleProductParams& params) {
  const std::string sizes = ": num_rows=" + std::to_string(params.num_rows) +
                            " num_outputs=" + std::to_string(params.num_outputs);
  if (params.num_rows < 0 || params.num_rows >= kSizeMax || params.num_outputs < 1 ||
      params.num_outputs >= kSizeMax) {
    return Status(StatusCode::kInvalidArgument, "scale product: size out of range" + sizes);
  }
  if (params.num_outputs % 8 != 0) {
    return Status(StatusCode::kUnsupported,
                  "scale product: outputs must be a multiple of 8" + sizes);
  }
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.y) || !IsVectorAligned(params.row_scales) ||
      !IsVectorAligned(params.output_scales) || !IsNullOrVectorAligned(params.bias)) {
    return Status(StatusCode::kInvalidArgument, "scale product: null or misaligned pointer");
  }
  return Status::Ok();
}

Status ScaleProductReference(const ScaleProductParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckScaleProduct(params));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    for (int64_t output = 0; output < params.num_outputs; ++output) {
      const int64_t offset = row * params.num_outputs + output;
      auto* const y_f32 = static_cast<float*>(params.y) + offset;
      auto* const y_bf16 = static_cast<uint16_t*>(params.y) + offset;
      const bool is_f32 = params.y_type == DeviceType::kF32;
      const float scaled = (is_f32 ? *y_f32 : Bf16ToF32(*y_bf16)) * params.row_scales[row];
      const float product = scaled * params.output_scales[output];
      const float y = product + (params.bias != nullptr ? Bf16ToF32(params.bias[output]) : 0.0F);
      if (is_f32) {
        *y_f32 = y;
      } else {
        *y_bf16 = F32ToBf16(y);
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
