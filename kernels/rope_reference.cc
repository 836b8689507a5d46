#include <string>

#include "kernels/rope.h"

namespace intarsia::kernels {

Status CheckApplyRope(const ApplyRopeParams& params) {
  constexpr int64_t kSizeMax = int64_t{1} << 31;
  std::string wrong;
  if (params.x == nullptr || params.y == nullptr || params.cosines == nullptr ||
      params.sines == nullptr) {
    wrong = "x, y, cosines or sines is null";
  } else if (params.num_tokens < 0 || params.num_tokens > kSizeMax || params.num_heads < 1 ||
             params.head_dim < 2) {
    wrong = "a size is out of range";
  } else if (params.rotary_dim < 2 || params.rotary_dim % 2 != 0 ||
             params.rotary_dim > params.head_dim) {
    wrong = "rotary_dim must be even and in [2, head_dim]";
  } else if (params.pairing != RopePairing::kHalfSplit &&
             params.pairing != RopePairing::kInterleaved) {
    wrong = "unknown pairing";
  } else {
    const int64_t row_size = int64_t{params.num_heads} * params.head_dim;
    if ((params.x_stride != 0 && params.x_stride < row_size) ||
        (params.y_stride != 0 && params.y_stride < row_size)) {
      wrong = "a stride is shorter than a row";
    }
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "rope: " + wrong + ": tokens=" + std::to_string(params.num_tokens) + " heads=" +
              std::to_string(params.num_heads) + " head_dim=" + std::to_string(params.head_dim) +
              " rotary_dim=" + std::to_string(params.rotary_dim)};
}

Status ApplyRopeReference(const ApplyRopeParams& params) {
  if (params.num_tokens == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckApplyRope(params));
  const int64_t row_size = int64_t{params.num_heads} * params.head_dim;
  const int64_t x_stride = params.x_stride == 0 ? row_size : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? row_size : params.y_stride;
  const int64_t num_pairs = params.rotary_dim / 2;
  const bool is_interleaved = params.pairing == RopePairing::kInterleaved;
  for (int64_t item = 0; item < params.num_tokens * params.num_heads; ++item) {
    const int64_t token = item / params.num_heads;
    const int64_t offset = item % params.num_heads * params.head_dim;
    const float* const x = params.x + token * x_stride + offset;
    float* const y = params.y + token * y_stride + offset;
    for (int64_t i = 0; i < num_pairs; ++i) {
      const int64_t first = is_interleaved ? 2 * i : i;
      const int64_t second = is_interleaved ? 2 * i + 1 : i + num_pairs;
      const double a = x[first];
      const double b = x[second];
      const double c = params.cosines[token * num_pairs + i];
      const double s = params.sines[token * num_pairs + i];
      y[first] = static_cast<float>(a * c - b * s);
      y[second] = static_cast<float>(b * c + a * s);
    }
    for (int64_t i = params.rotary_dim; i < params.head_dim; ++i) y[i] = x[i];
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
