#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/rms_norm.h"

namespace intarsia::kernels {

Status CheckRmsNorm(const RmsNormParams& params) {
  constexpr int64_t kSizeMax = int64_t{1} << 31;
  std::string wrong;
  if (params.x == nullptr || (params.y == nullptr && params.y_bf16 == nullptr)) {
    wrong = "x or the output is null";
  } else if ((params.addend == nullptr) != (params.sum == nullptr)) {
    wrong = "addend and sum must be set together";
  } else if (params.num_rows < 0 || params.num_groups < 1 || params.dim < 1 ||
             params.num_rows > kSizeMax || params.dim > kSizeMax / params.num_groups) {
    wrong = "a size is out of range";
  } else if (!(params.epsilon >= 0.0f)) {
    wrong = "epsilon is negative or NaN";
  } else {
    const int64_t row_size = params.num_groups * params.dim;
    if ((params.x_stride != 0 && params.x_stride < row_size) ||
        (params.y_stride != 0 && params.y_stride < row_size)) {
      wrong = "a stride is shorter than a row";
    }
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "rms norm: " + wrong + ": rows=" + std::to_string(params.num_rows) + " groups=" +
              std::to_string(params.num_groups) + " dim=" + std::to_string(params.dim)};
}

Status RmsNormReference(const RmsNormParams& params) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckRmsNorm(params));
  const int64_t row_size = params.num_groups * params.dim;
  const int64_t x_stride = params.x_stride == 0 ? row_size : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? row_size : params.y_stride;
  std::vector<float> values(static_cast<size_t>(params.dim));
  for (int64_t item = 0; item < params.num_rows * params.num_groups; ++item) {
    const int64_t row = item / params.num_groups;
    const int64_t column = item % params.num_groups * params.dim;
    double square_sum = 0.0;
    for (int64_t i = 0; i < params.dim; ++i) {
      float& value = values[static_cast<size_t>(i)];
      value = params.x[row * x_stride + column + i];
      if (params.addend != nullptr) {
        value += params.addend[row * row_size + column + i];  // f32, as the residual stream is
        params.sum[row * x_stride + column + i] = value;
      }
      square_sum += static_cast<double>(value) * value;
    }
    const double rms =
        std::sqrt(square_sum / static_cast<double>(params.dim) + double{params.epsilon});
    for (int64_t i = 0; i < params.dim; ++i) {
      const double weight = params.weight == nullptr ? 1.0 : params.weight[i];
      const auto y = static_cast<float>(values[static_cast<size_t>(i)] / rms * weight);
      const int64_t index = row * y_stride + column + i;
      if (params.y != nullptr) params.y[index] = y;
      if (params.y_bf16 != nullptr) params.y_bf16[index] = F32ToBf16(y);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
