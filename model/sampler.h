// Sampler: the next token from a row of logits.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "base/result.h"

namespace intarsia::model {

struct SamplerOptions {
  double temperature = 0.0;  // 0: greedy, the largest logit, the first of equals
  int64_t top_k = 0;         // only the k most likely tokens; 0: all
  double top_p = 1.0;        // only the most likely tokens that together reach this probability
  uint64_t seed = 0;         // equal seeds give equal tokens for equal logits
};

class Sampler {
 public:
  // Errors: kInvalidArgument for a temperature below 0 or above 10, a top_k below 0, or a top_p
  // outside (0, 1].
  static Result<Sampler> Create(const SamplerOptions& options);

  // Errors: kInternal if the logits hold no finite number, which only a broken model gives.
  Result<int32_t> Next(std::span<const float> logits);

 private:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}

  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<int32_t> order_;  // reused
};

}  // namespace intarsia::model
