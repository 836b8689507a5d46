#include <string>

#include "kernels/convert.h"
#include "kernels/propagate.h"

namespace intarsia::kernels {
namespace {

bool IsTooShort(int64_t stride, int64_t size) { return stride != 0 && stride < size; }

}  // namespace

Status CheckPropagate(const PropagateParams& params) {
  constexpr int64_t kSizeMax = int64_t{1} << 31;
  std::string wrong;
  if (params.num_tokens < 0 || params.num_deltas < 0 || params.width < 0 ||
      params.num_tokens > kSizeMax || params.num_deltas > kSizeMax || params.width > kSizeMax) {
    wrong = "a size is out of range";
  } else if (params.num_tokens == 0 || params.width == 0) {
    return Status::Ok();
  } else if ((params.cached == nullptr) == (params.cached_bf16 == nullptr)) {
    wrong = "exactly one of cached and cached_bf16 must be set";
  } else if (params.target == nullptr ||
             (params.num_deltas > 0 && (params.weights == nullptr || params.deltas == nullptr))) {
    wrong = "target, weights or deltas is null";
  } else if (IsTooShort(params.cached_stride, params.width) ||
             IsTooShort(params.target_stride, params.width) ||
             IsTooShort(params.deltas_stride, params.width) ||
             IsTooShort(params.weights_stride, params.num_deltas)) {
    wrong = "a stride is shorter than a row";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "propagate: " + wrong + ": tokens=" + std::to_string(params.num_tokens) + " deltas=" +
              std::to_string(params.num_deltas) + " width=" + std::to_string(params.width)};
}

Status PropagateReference(const PropagateParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPropagate(params));
  const auto stride_or = [](int64_t stride, int64_t size) { return stride == 0 ? size : stride; };
  const int64_t cached_stride = stride_or(params.cached_stride, params.width);
  const int64_t weights_stride = stride_or(params.weights_stride, params.num_deltas);
  const int64_t deltas_stride = stride_or(params.deltas_stride, params.width);
  const int64_t target_stride = stride_or(params.target_stride, params.width);
  for (int64_t token = 0; token < params.num_tokens; ++token) {
    for (int64_t column = 0; column < params.width; ++column) {
      const int64_t index = token * cached_stride + column;
      double sum =
          params.cached != nullptr ? params.cached[index] : Bf16ToF32(params.cached_bf16[index]);
      for (int64_t s = 0; s < params.num_deltas; ++s) {
        sum += static_cast<double>(params.weights[token * weights_stride + s]) *
               params.deltas[s * deltas_stride + column];
      }
      params.target[token * target_stride + column] = static_cast<float>(sum);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
