// The definition of int8_matrix.h: the codes as the fast form has them, sums in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/int8_matrix.h"

namespace intarsia::kernels {
namespace {

// A row as its codes say, times their steps.
std::vector<double> AsQuantized(const float* row, int64_t num_inputs) {
  std::vector<double> values;
  for (int64_t begin = 0; begin < num_inputs; begin += kInt8GroupInputs) {
    const int64_t end = std::min(begin + kInt8GroupInputs, num_inputs);
    float absmax = 0.0F;
    bool is_finite = true;
    for (int64_t i = begin; i < end; ++i) {
      absmax = std::max(absmax, std::fabs(row[i]));
      is_finite = is_finite && std::isfinite(row[i]);
    }
    // In f32, like the fast form, so that codes at the border of two agree.
    const bool is_zero = absmax < 1e-30F;
    const float inverse = is_zero ? 0.0F : 127.0F / absmax;
    const float step = is_zero ? 0.0F : absmax / 127.0F;
    for (int64_t i = begin; i < end; ++i) {
      values.push_back(is_finite ? std::nearbyint(row[i] * inverse) * double{step}
                                 : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return values;
}

}  // namespace

void Int8ProductReference(const Int8ProductReferenceParams& params) {
  std::vector<std::vector<double>> weights;
  for (int64_t output = 0; output < params.num_outputs; ++output) {
    weights.push_back(AsQuantized(params.weights + output * params.num_inputs, params.num_inputs));
  }
  for (int64_t row = 0; row < params.num_rows; ++row) {
    const auto x = AsQuantized(params.x + row * params.num_inputs, params.num_inputs);
    for (int64_t output = 0; output < params.num_outputs; ++output) {
      const std::vector<double>& w = weights[static_cast<size_t>(output)];
      double sum = params.bias == nullptr ? 0.0 : double{params.bias[output]};
      for (size_t i = 0; i < x.size(); ++i) sum += x[i] * w[i];
      params.y[row * params.num_outputs + output] = static_cast<float>(sum);
    }
  }
}

}  // namespace intarsia::kernels
