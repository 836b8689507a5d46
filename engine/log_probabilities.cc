#include "engine/log_probabilities.h"

#include <algorithm>
#include <cmath>

namespace intarsia::engine {

std::vector<double> LogProbabilities(std::span<const float> logits) {
  const double maximum = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - maximum);
  const double log_sum = maximum + std::log(sum);
  std::vector<double> result;
  result.reserve(logits.size());
  for (const float logit : logits) result.push_back(logit - log_sum);
  return result;
}

double KlDivergence(std::span<const double> reference, std::span<const double> other) {
  double sum = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    sum += std::exp(reference[i]) * (reference[i] - other[i]);
  }
  return sum;
}

}  // namespace intarsia::engine
