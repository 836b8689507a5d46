#include <array>
#include <string>

#include "kernels/convert.h"
#include "kernels/device_matrix.h"
#include "kernels/device_pointer.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kSizeMax = int64_t{1} << 31;

bool IsSize(int64_t size) { return size >= 1 && size < kSizeMax; }

bool IsAligned(const Fp8Rows& rows) {
  return IsVectorAligned(rows.codes) && IsVectorAligned(rows.scales);
}

std::array<float, 256> AllE4m3() {
  std::array<float, 256> numbers{};
  for (size_t code = 0; code < numbers.size(); ++code) {
    numbers[code] = E4m3ToF32(static_cast<uint8_t>(code));
  }
  return numbers;
}

// The sum of products of a row and an output, scaled.
double Product(const DeviceMatMulParams& params, int64_t row, int64_t output) {
  const int64_t x_first = row * params.num_inputs;
  const int64_t weights_first = output * params.num_inputs;
  double sum = 0.0;
  if (!params.is_fp8()) {
    for (int64_t i = 0; i < params.num_inputs; ++i) {
      sum +=
          double{Bf16ToF32(params.x[x_first + i])} * Bf16ToF32(params.weights[weights_first + i]);
    }
    return sum;
  }
  static const std::array<float, 256> kNumbers = AllE4m3();
  for (int64_t i = 0; i < params.num_inputs; ++i) {
    sum += double{kNumbers[params.x_fp8.codes[x_first + i]]} *
           kNumbers[params.weights_fp8.codes[weights_first + i]];
  }
  return sum * params.x_fp8.scales[row] * params.weights_fp8.scales[output];
}

}  // namespace

Status CheckDeviceMatMul(const DeviceMatMulParams& params) {
  const auto refuse = [&](StatusCode code, const std::string& what) {
    return Status(code, "matrix product: " + what +
                            ": num_rows=" + std::to_string(params.num_rows) +
                            " num_inputs=" + std::to_string(params.num_inputs) +
                            " num_outputs=" + std::to_string(params.num_outputs));
  };
  if (params.num_rows < 0 || params.num_rows >= kSizeMax || !IsSize(params.num_inputs) ||
      !IsSize(params.num_outputs)) {
    return refuse(StatusCode::kInvalidArgument, "size out of range");
  }
  const int64_t step = params.is_fp8() ? 16 : 8;
  if (params.num_inputs % step != 0 || params.num_outputs % step != 0) {
    return refuse(StatusCode::kUnsupported,
                  "inputs and outputs must be multiples of " + std::to_string(step));
  }
  if (params.bias != nullptr && params.y_type != DeviceType::kBf16) {
    return refuse(StatusCode::kUnsupported, "a bias needs a product in bf16");
  }
  if (params.num_rows == 0) return Status::Ok();
  const bool are_good_operands =
      params.is_fp8() ? IsAligned(params.x_fp8) && IsAligned(params.weights_fp8) &&
                            params.x == nullptr && params.weights == nullptr
                      : IsVectorAligned(params.x) && IsVectorAligned(params.weights) &&
                            params.weights_fp8.codes == nullptr;
  if (!are_good_operands || !IsVectorAligned(params.y) || !IsNullOrVectorAligned(params.bias)) {
    return refuse(StatusCode::kInvalidArgument, "null or misaligned pointer");
  }
  return Status::Ok();
}

Status DeviceMatMulReference(const DeviceMatMulParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckDeviceMatMul(params));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    for (int64_t output = 0; output < params.num_outputs; ++output) {
      const double bias = params.bias == nullptr ? 0.0 : Bf16ToF32(params.bias[output]);
      const double sum = bias + Product(params, row, output);
      const int64_t offset = row * params.num_outputs + output;
      if (params.y_type == DeviceType::kF32) {
        static_cast<float*>(params.y)[offset] = static_cast<float>(sum);
      } else {
        static_cast<uint16_t*>(params.y)[offset] = F32ToBf16(static_cast<float>(sum));
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
