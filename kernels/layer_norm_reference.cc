#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/layer_norm.h"

namespace intarsia::kernels {

Status CheckLayerNorm(const LayerNormParams& params) {
  constexpr int64_t kSizeMax = int64_t{1} << 31;
  std::string wrong;
  if (params.x == nullptr || params.gain == nullptr || params.bias == nullptr ||
      (params.y == nullptr && params.y_bf16 == nullptr)) {
    wrong = "x, gain, bias or the output is null";
  } else if (params.num_rows < 0 || params.num_rows > kSizeMax || params.dim < 1 ||
             params.dim > kSizeMax) {
    wrong = "a size is out of range";
  } else if (!(params.epsilon >= 0.0f)) {
    wrong = "epsilon is negative or NaN";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "layer norm: " + wrong +
                                            ": rows=" + std::to_string(params.num_rows) +
                                            " dim=" + std::to_string(params.dim)};
}

Status LayerNormReference(const LayerNormParams& params) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckLayerNorm(params));
  const auto dim = static_cast<double>(params.dim);
  std::vector<double> values(static_cast<size_t>(params.dim));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    const int64_t offset = row * params.dim;
    double sum = 0.0;
    for (int64_t i = 0; i < params.dim; ++i) {
      const double addend = params.addend == nullptr ? 0.0 : params.addend[offset + i];
      values[static_cast<size_t>(i)] = params.x[offset + i] + addend;
      sum += values[static_cast<size_t>(i)];
    }
    const double mean = sum / dim;
    double square_sum = 0.0;
    for (const double value : values) square_sum += (value - mean) * (value - mean);
    const double deviation = std::sqrt(square_sum / dim + double{params.epsilon});
    for (int64_t i = 0; i < params.dim; ++i) {
      const double normal = (values[static_cast<size_t>(i)] - mean) / deviation;
      const auto y = static_cast<float>(normal * params.gain[i] + params.bias[i]);
      if (params.y != nullptr) params.y[offset + i] = y;
      if (params.y_bf16 != nullptr) params.y_bf16[offset + i] = F32ToBf16(y);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
