#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/quantize_rows.h"
#include "kernels/residual_norm.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kDimMax = 16'384;
constexpr int64_t kRowsMax = int64_t{1} << 31;

double Scale(const std::vector<double>& row, float epsilon) {
  double square_sum = 0.0;
  for (const double x : row) square_sum += x * x;
  return 1.0 / std::sqrt(square_sum / static_cast<double>(row.size()) + double{epsilon});
}

}  // namespace

Status CheckResidualNorm(const ResidualNormParams& params) {
  const bool is_good_size = params.num_rows >= 0 && params.num_rows < kRowsMax && params.dim >= 1;
  if (!is_good_size || !(params.epsilon >= 0.0F)) {
    return Status(StatusCode::kInvalidArgument,
                  "residual norm: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " dim=" + std::to_string(params.dim) +
                      " epsilon=" + std::to_string(params.epsilon));
  }
  if (params.dim % 8 != 0 || params.dim > kDimMax) {
    return Status(StatusCode::kUnsupported, "residual norm: dim must be a multiple of 8 up to " +
                                                std::to_string(kDimMax) +
                                                ": dim=" + std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  const bool has_addend_weight = params.addend_weight != nullptr;
  const bool is_good_output =
      params.y != nullptr
          ? IsVectorAligned(params.y) && params.y_fp8.codes == nullptr
          : IsVectorAligned(params.y_fp8.codes) && IsVectorAligned(params.y_fp8.scales);
  if (!is_good_output || !IsVectorAligned(params.hidden) || !IsVectorAligned(params.weight) ||
      !IsNullOrVectorAligned(params.addend) || !IsNullOrVectorAligned(params.addend_weight) ||
      (has_addend_weight && params.addend == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "residual norm: null or misaligned pointer");
  }
  return Status::Ok();
}

Status ResidualNormReference(const ResidualNormParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckResidualNorm(params));
  const auto dim = static_cast<size_t>(params.dim);
  std::vector<double> addend(dim);
  std::vector<double> sum(dim);
  std::vector<uint16_t> rounded(dim);
  for (int64_t row = 0; row < params.num_rows; ++row) {
    float* const hidden = params.hidden + row * params.dim;
    if (params.addend != nullptr) {
      for (size_t i = 0; i < dim; ++i) {
        addend[i] = Bf16ToF32(params.addend[row * params.dim + static_cast<int64_t>(i)]);
      }
    }
    const double addend_scale =
        params.addend_weight != nullptr ? Scale(addend, params.epsilon) : 1.0;
    for (size_t i = 0; i < dim; ++i) {
      const double weight = params.addend_weight != nullptr ? params.addend_weight[i] : 1.0;
      if (params.addend != nullptr) {
        hidden[i] = static_cast<float>(hidden[i] + addend[i] * addend_scale * weight);
      }
      sum[i] = hidden[i];
    }
    const double scale = Scale(sum, params.epsilon);
    uint16_t* const y = params.y != nullptr ? params.y + row * params.dim : rounded.data();
    for (size_t i = 0; i < dim; ++i) {
      y[i] = F32ToBf16(static_cast<float>(sum[i] * scale * params.weight[i]));
    }
    if (params.y == nullptr) QuantizeRow(y, row, params.dim, params.y_fp8);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
