// Sampler: the next token from a row of logits, as kernels/sample_rows.h defines it.
//
// A draw is a function of the seed and the step, so that an answer is the same wherever its logits
// are equal: on the host, on a device, and when it is taken up in the middle.
//
// Thread safety: concurrent calls are safe.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "kernels/sample_rows.h"

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

  // `step` is the position of the token that gave the logits.
  // Errors: kInternal if the logits hold no finite number, which only a broken model gives.
  Result<int32_t> Next(std::span<const float> logits, int64_t step) const;

  // For those who draw by themselves.
  const kernels::SampleRule& rule() const { return rule_; }

 private:
  explicit Sampler(const kernels::SampleRule& rule) : rule_(rule) {}

  kernels::SampleRule rule_;
};

// What a draw without any token means. kInternal.
Status NoFiniteLogitError();

}  // namespace intarsia::model
