// Bound and design: none; this is the definition, with the transform written out as a matrix.
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/hadamard_rotate.h"

namespace intarsia::kernels {

Status HadamardRotateReference(const HadamardRotateParams& params) {
  if (params.dim < 64 || params.dim > 65'536 || params.dim % 64 != 0 || params.num_rounds < 1) {
    return Status(StatusCode::kInvalidArgument, "hadamard rotate: size out of range");
  }
  if (params.input == nullptr || params.signs == nullptr || params.output == nullptr) {
    return Status(StatusCode::kInvalidArgument, "hadamard rotate: null pointer");
  }
  const auto width = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(params.dim)));
  std::vector<double> x(params.input, params.input + params.dim);
  for (int64_t round = 0; round < params.num_rounds; ++round) {
    for (int64_t i = 0; i < params.dim; ++i) {
      x[static_cast<size_t>(i)] *= params.signs[round * params.dim + i];
    }
    const int64_t first = round % 2 == 0 ? 0 : params.dim - width;
    const std::vector<double> flipped = x;
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0.0;
      for (int64_t j = 0; j < width; ++j) {
        const bool is_negative = std::popcount(static_cast<uint64_t>(i & j)) % 2 == 1;
        const double value = flipped[static_cast<size_t>(first + j)];
        sum += is_negative ? -value : value;
      }
      x[static_cast<size_t>(first + i)] = sum / std::sqrt(static_cast<double>(width));
    }
  }
  for (int64_t i = 0; i < params.dim; ++i) {
    params.output[i] = static_cast<float>(x[static_cast<size_t>(i)]);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
