#include <string>
#include <vector>

#include "kernels/quantized_gemv.h"

namespace intarsia::kernels {

Status CheckQuantizedGemv(const QuantizedGemvParams& params) {
  const int64_t row_bytes = RowBytes(params.type, params.num_inputs);
  int64_t num_bytes = 0;
  int64_t num_values = 0;
  if (params.num_rows < 0 || params.num_rows > kGemvRowsMax || params.num_outputs < 0 ||
      params.num_inputs < 1 || row_bytes < 0 || BlockBytes(params.type) == 0 ||
      __builtin_mul_overflow(params.num_outputs, row_bytes, &num_bytes) ||
      __builtin_mul_overflow(params.num_outputs, kGemvRowsMax, &num_values)) {
    return Status(StatusCode::kInvalidArgument,
                  "quantized gemv: bad size: type=" + std::string(BlockTypeName(params.type)) +
                      " num_rows=" + std::to_string(params.num_rows) +
                      " num_outputs=" + std::to_string(params.num_outputs) +
                      " num_inputs=" + std::to_string(params.num_inputs) +
                      " block_size=" + std::to_string(BlockSize(params.type)));
  }
  if (params.num_rows == 0 || params.num_outputs == 0) return Status::Ok();
  if (params.weights == nullptr || params.x == nullptr || params.y == nullptr) {
    return Status(StatusCode::kInvalidArgument, "quantized gemv: null pointer");
  }
  return Status::Ok();
}

Status QuantizedGemvReference(const QuantizedGemvParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckQuantizedGemv(params));
  const int64_t row_bytes = RowBytes(params.type, params.num_inputs);
  const auto* bytes = static_cast<const uint8_t*>(params.weights);
  std::vector<float> weights(static_cast<size_t>(params.num_inputs));
  for (int64_t output = 0; params.num_rows > 0 && output < params.num_outputs; ++output) {
    INTARSIA_RETURN_IF_ERROR(
        Dequantize(params.type, bytes + output * row_bytes, params.num_inputs, weights.data()));
    for (int64_t row = 0; row < params.num_rows; ++row) {
      const float* x = params.x + row * params.num_inputs;
      double sum = params.bias != nullptr ? static_cast<double>(params.bias[output]) : 0.0;
      for (int64_t i = 0; i < params.num_inputs; ++i) {
        sum += static_cast<double>(weights[static_cast<size_t>(i)]) * static_cast<double>(x[i]);
      }
      params.y[row * params.num_outputs + output] = static_cast<float>(sum);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
