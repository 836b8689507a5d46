#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/softmax.h"

namespace intarsia::model {
namespace {

// Candidates beyond these have no weight that matters, and sorting a vocabulary of 150,000 for each
// token would cost more than the model's last layer.
constexpr int64_t kCandidatesMax = 1'000;

}  // namespace

Result<Sampler> Sampler::Create(const SamplerOptions& options) {
  if (!(options.temperature >= 0.0 && options.temperature <= 10.0) || options.top_k < 0 ||
      !(options.top_p > 0.0 && options.top_p <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  "sampling needs temperature in [0, 10], top_k >= 0 and top_p in (0, 1]: "
                  "temperature=" +
                      std::to_string(options.temperature) +
                      " top_k=" + std::to_string(options.top_k) +
                      " top_p=" + std::to_string(options.top_p));
  }
  return Sampler(options);
}

Result<int32_t> Sampler::Next(std::span<const float> logits) {
  const int64_t best = kernels::ArgMax(logits.data(), std::ssize(logits));
  if (best < 0 || !std::isfinite(logits[static_cast<size_t>(best)])) {
    return Status(StatusCode::kInternal, "the model returned no finite logit");
  }
  if (options_.temperature == 0.0 || options_.top_k == 1) return static_cast<int32_t>(best);
  const int64_t vocab = std::ssize(logits);
  const int64_t limit =
      std::min({vocab, kCandidatesMax, options_.top_k > 0 ? options_.top_k : vocab});
  order_.resize(static_cast<size_t>(vocab));
  for (int64_t token = 0; token < vocab; ++token) {
    order_[static_cast<size_t>(token)] = static_cast<int32_t>(token);
  }
  std::partial_sort(order_.begin(), order_.begin() + limit, order_.end(),
                    [&logits](int32_t a, int32_t b) {
                      const float logit_a = logits[static_cast<size_t>(a)];
                      const float logit_b = logits[static_cast<size_t>(b)];
                      return logit_a != logit_b ? logit_a > logit_b : a < b;
                    });
  std::vector<double> weights;
  const double maximum = logits[static_cast<size_t>(best)];
  double sum = 0.0;
  for (int64_t i = 0; i < limit; ++i) {
    const double logit = logits[static_cast<size_t>(order_[static_cast<size_t>(i)])];
    const double weight =
        std::isfinite(logit) ? std::exp((logit - maximum) / options_.temperature) : 0.0;
    weights.push_back(weight);
    sum += weight;
  }
  double kept = 0.0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < options_.top_p * sum)) {
    kept += weights[count++];
  }
  // Not std::discrete_distribution, whose result differs between standard libraries.
  double draw = kept * static_cast<double>(random_() >> 11) * 0x1p-53;
  size_t pick = 0;
  while (pick + 1 < count && draw >= weights[pick]) draw -= weights[pick++];
  return order_[pick];
}

}  // namespace intarsia::model
