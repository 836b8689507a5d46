// LogitDifference: how far two rows of logits are apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace intarsia::model {

// The largest difference, as a share of the standard deviation of `wanted`.
template <typename Wanted>
double LogitDifference(const std::vector<float>& logits, const Wanted& wanted) {
  double mean = 0.0;
  double square = 0.0;
  double worst = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double value = wanted[i];
    mean += value;
    square += value * value;
    worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - value));
  }
  const auto count = static_cast<double>(logits.size());
  return worst / std::sqrt(square / count - mean * mean / count / count);
}

}  // namespace intarsia::model
