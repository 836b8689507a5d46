// ConditionCovariance: one step of a greedy experimental design over a Gaussian process.
//
// A design picks points one after another so that measuring them leaves the least weighted
// variance. What it knows of the points is their covariance C given the picks so far, and for each
// point u the sum over t of w_t C[t, u]^2, from which the worth of picking u follows. Measuring a
// point changes both:
//   C'[t, u] = C[t, u] - c_t c_u / (c_pivot + noise),   c = C[:, pivot]
// Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 2.26, for one
// measurement; the sums follow by squaring.
//
// Thread safety: may be called concurrently on distinct covariances; one thread each.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

struct ConditionCovarianceParams {
  float* covariance = nullptr;     // [size, stride], symmetric; overwritten
  int64_t size = 0;                // >= 1
  int64_t stride = 0;              // >= size
  int64_t pivot = 0;               // the point that is measured, in [0, size)
  float noise = 0.0f;              // variance of the measurement's error, > 0
  const float* weights = nullptr;  // [size]
  // [size]: sum over t of weights[t] * C[t, u]^2, kept up to date. In f32, so that it drifts by
  // rounding over many steps.
  float* square_sums = nullptr;
  float* workspace = nullptr;  // [2 * size], overwritten
};

// Errors: kInvalidArgument for a null pointer, a size out of range or a noise that is not positive;
// nothing is written then.
Status ConditionCovariance(const ConditionCovarianceParams& params);

// The errors of both forms.
Status CheckConditionCovariance(const ConditionCovarianceParams& params);

// The definition: double accumulation.
Status ConditionCovarianceReference(const ConditionCovarianceParams& params);

}  // namespace intarsia::kernels
