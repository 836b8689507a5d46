#include "model/sampler.h"

#include <algorithm>
#include <limits>
#include <string>

namespace intarsia::model {
namespace {

constexpr double kTemperatureMin = 1e-30;

}  // namespace

Result<Sampler> Sampler::Create(const SamplerOptions& options) {
  if (!(options.temperature >= 0.0 && options.temperature <= 10.0) || options.top_k < 0 ||
      !(options.top_p > 0.0 && options.top_p <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  "sampling needs temperature in [0, 10], top_k >= 0 and top_p in (0, 1]: "
                  "temperature=" +
                      std::to_string(options.temperature) + " top_k=" +
                      std::to_string(options.top_k) + " top_p=" + std::to_string(options.top_p));
  }
  kernels::SampleRule rule;
  // Further down a difference of logits divided by it is no number, and the draw is greedy anyway.
  rule.temperature =
      options.temperature < kTemperatureMin ? 0.0f : static_cast<float>(options.temperature);
  rule.top_k =
      static_cast<int32_t>(std::min<int64_t>(options.top_k, std::numeric_limits<int32_t>::max()));
  // A share that rounds to 0 still keeps the first token.
  rule.top_p = std::max(static_cast<float>(options.top_p), std::numeric_limits<float>::min());
  rule.seed = options.seed;
  return Sampler(rule);
}

Result<int32_t> Sampler::Next(std::span<const float> logits, int64_t step) const {
  if (logits.empty()) return NoFiniteLogitError();
  const auto draw = static_cast<int32_t>(step);
  int32_t token = -1;
  INTARSIA_RETURN_IF_ERROR(kernels::SampleRows({.logits = logits.data(),
                                                .stride = std::ssize(logits),
                                                .rules = &rule_,
                                                .steps = &draw,
                                                .tokens = &token,
                                                .num_rows = 1,
                                                .vocab_size = std::ssize(logits)}));
  if (token < 0) return NoFiniteLogitError();
  return token;
}

Status NoFiniteLogitError() {
  return {StatusCode::kInternal, "the model returned no finite logit"};
}

}  // namespace intarsia::model
