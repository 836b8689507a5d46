#include <cmath>
#include <numbers>
#include <string>

#include "kernels/activation.h"
#include "kernels/convert.h"

namespace intarsia::kernels {
namespace {

double Evaluate(Activation kind, double x) {
  if (std::isinf(x)) return x > 0.0 ? x : -0.0;
  switch (kind) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh: {
      const double u = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return x / 2.0 * (1.0 + std::tanh(u));
    }
    case Activation::kGeluErf:
      return x / 2.0 * std::erfc(-x / std::numbers::sqrt2);
  }
  return std::nan("");
}

}  // namespace

Status CheckActivation(const ActivationParams& params) {
  constexpr int64_t kSizeMax = int64_t{1} << 31;
  std::string wrong;
  if (params.kind != Activation::kSilu && params.kind != Activation::kGeluTanh &&
      params.kind != Activation::kGeluErf) {
    return {StatusCode::kUnsupported,
            "unknown activation: kind=" + std::to_string(static_cast<int>(params.kind))};
  }
  if (params.x == nullptr || (params.y == nullptr && params.y_bf16 == nullptr)) {
    wrong = "x or the output is null";
  } else if (params.num_rows < 0 || params.num_rows > kSizeMax || params.dim < 1 ||
             params.dim > kSizeMax) {
    wrong = "a size is out of range";
  } else if ((params.x_stride != 0 && params.x_stride < params.dim) ||
             (params.y_stride != 0 && params.y_stride < params.dim)) {
    wrong = "a stride is shorter than a row";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "activation: " + wrong +
                                            ": rows=" + std::to_string(params.num_rows) +
                                            " dim=" + std::to_string(params.dim)};
}

Status ActivateReference(const ActivationParams& params) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckActivation(params));
  const int64_t x_stride = params.x_stride == 0 ? params.dim : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? params.dim : params.y_stride;
  for (int64_t row = 0; row < params.num_rows; ++row) {
    for (int64_t i = 0; i < params.dim; ++i) {
      double value = Evaluate(params.kind, params.x[row * x_stride + i]);
      if (params.up != nullptr) value *= params.up[row * x_stride + i];
      const auto y = static_cast<float>(value);
      if (params.y != nullptr) params.y[row * y_stride + i] = y;
      if (params.y_bf16 != nullptr) params.y_bf16[row * y_stride + i] = F32ToBf16(y);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
