// Softmax: a row of logits as probabilities, its logarithm of the sum of exponentials, its maximum.
//
// Logarithms are natural. -infinity is how a sampler rules a token out: its probability is 0.
// An empty row, or one of -infinity alone, has the log-sum-exp -infinity and no probabilities: all
// are 0. If an element is NaN or +infinity, the log-sum-exp and every probability are NaN.
//
// Thread safety: all functions may be called concurrently on distinct outputs. One thread each.
#pragma once

#include <cstdint>

namespace intarsia::kernels {

// Returns log(sum(exp(x[i] / temperature))). REQUIRES: temperature > 0.
float LogSumExp(const float* x, int64_t num_elements, float temperature);

// probabilities[i] = exp(x[i] / temperature - LogSumExp), within 1e-5 relative, or 0 where that is
// below 1e-37; returns the LogSumExp. `probabilities` may be `x`. REQUIRES: temperature > 0.
float Softmax(const float* x, int64_t num_elements, float temperature, float* probabilities);

// Returns the index of the largest element, the first of equals; NaN is passed over. -1 if there is
// no element but NaN.
int64_t ArgMax(const float* x, int64_t num_elements);

}  // namespace intarsia::kernels
