#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/bidirectional_attention.h"
#include "kernels/bidirectional_attention_check.h"
#include "kernels/convert.h"

namespace intarsia::kernels {

Status BidirectionalAttentionReference(const BidirectionalAttentionParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckBidirectionalAttention(params));
  const int64_t dim = params.head_dim;
  const int64_t width = params.num_heads * dim;
  std::vector<double> weights;
  for (int64_t text = 0; text < params.num_texts; ++text) {
    const int64_t begin = params.row_begins[text];
    const int64_t end = params.row_begins[text + 1];
    weights.resize(static_cast<size_t>(end - begin));
    for (int64_t item = 0; item < (end - begin) * params.num_heads; ++item) {
      const int64_t row = begin + item / params.num_heads;
      const int64_t column = item % params.num_heads * dim;
      const float* const q = params.qkv + row * 3 * width + column;
      double largest = -std::numeric_limits<double>::infinity();
      for (int64_t key = begin; key < end; ++key) {
        const float* const k = params.qkv + key * 3 * width + width + column;
        double score = 0.0;
        for (int64_t i = 0; i < dim; ++i) score += double{q[i]} * double{k[i]};
        weights[static_cast<size_t>(key - begin)] = score * double{params.scale};
        largest = std::max(largest, score * double{params.scale});
      }
      double sum = 0.0;
      for (double& weight : weights) sum += weight = std::exp(weight - largest);
      for (int64_t i = 0; i < dim; ++i) {
        double value = 0.0;
        for (int64_t key = begin; key < end; ++key) {
          value += weights[static_cast<size_t>(key - begin)] *
                   double{params.qkv[key * 3 * width + 2 * width + column + i]};
        }
        const auto rounded = static_cast<float>(value / sum);
        const int64_t target = row * width + column + i;
        if (params.y != nullptr) params.y[target] = rounded;
        if (params.y_bf16 != nullptr) params.y_bf16[target] = F32ToBf16(rounded);
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
