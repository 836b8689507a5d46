#include <cmath>
#include <string>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/head_norm.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kSizeMax = int64_t{1} << 31;
constexpr int32_t kHeadDimMax = 256;

}  // namespace

Status CheckHeadNorm(const HeadNormParams& params) {
  const int64_t num_heads = int64_t{params.num_q_heads} + params.num_k_heads;
  const bool is_good_size =
      params.num_rows >= 0 && params.num_rows < kSizeMax && params.num_q_heads >= 0 &&
      params.num_k_heads >= 0 && num_heads >= 1 && params.head_dim >= 1 && params.stride % 8 == 0 &&
      params.stride < kSizeMax && params.stride >= num_heads * params.head_dim;
  if (!is_good_size || !(params.epsilon >= 0.0F)) {
    return Status(StatusCode::kInvalidArgument,
                  "head norm: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " num_heads=" + std::to_string(num_heads) + " head_dim=" +
                      std::to_string(params.head_dim) + " stride=" + std::to_string(params.stride) +
                      " epsilon=" + std::to_string(params.epsilon));
  }
  if (params.head_dim % 8 != 0 || params.head_dim > kHeadDimMax) {
    return Status(StatusCode::kUnsupported,
                  "head norm: head_dim must be a multiple of 8 up to 256: head_dim=" +
                      std::to_string(params.head_dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.heads) || !IsVectorAligned(params.q_weight) ||
      !IsVectorAligned(params.k_weight)) {
    return Status(StatusCode::kInvalidArgument, "head norm: null or misaligned pointer");
  }
  return Status::Ok();
}

Status HeadNormReference(const HeadNormParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckHeadNorm(params));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    for (int32_t head = 0; head < params.num_q_heads + params.num_k_heads; ++head) {
      uint16_t* const x = params.heads + row * params.stride + int64_t{head} * params.head_dim;
      const float* const weight = head < params.num_q_heads ? params.q_weight : params.k_weight;
      double square_sum = 0.0;
      for (int32_t i = 0; i < params.head_dim; ++i) {
        square_sum += double{Bf16ToF32(x[i])} * double{Bf16ToF32(x[i])};
      }
      const double scale = 1.0 / std::sqrt(square_sum / params.head_dim + double{params.epsilon});
      for (int32_t i = 0; i < params.head_dim; ++i) {
        x[i] = F32ToBf16(static_cast<float>(Bf16ToF32(x[i]) * scale * double{weight[i]}));
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
