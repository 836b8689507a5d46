// Samples: repeated measurements of one thing.
//
// Thread safety: like a vector.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace intarsia::bench {

// Of an even number the mean of the middle two; 0 for none.
inline double MedianOf(std::span<const double> values) {
  if (values.empty()) return 0.0;
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2.0;
}

// Coefficient of variation: the standard deviation as a share of the mean; 0 for less than two.
inline double VariationOf(std::span<const double> values) {
  if (values.size() < 2) return 0.0;
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  for (const double value : values) sum += value;
  double square_sum = 0.0;
  for (const double value : values) square_sum += (value - sum / count) * (value - sum / count);
  return std::sqrt(square_sum / (count - 1.0)) / (sum / count);
}

}  // namespace intarsia::bench
