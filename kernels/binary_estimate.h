// The interval of an estimate, the same to the bit on host and device. Internal to kernels/.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/paged_kv.h"

namespace intarsia::kernels {

// A row's factors.
struct BinaryFactors {
  float scale;
  float offset;
  float error;
};

// What a query multiplies and adds. `error_bound` is not negative, and `step` is that of a whole
// number of the product.
struct BinaryQueryFactors {
  float step;
  float base;
  float error_bound;
};

// Each is a rounding of sums and products that grow with every factor (for the scale, if `product`
// is not negative): rounding keeps the order, so bounds of factors give a bound of the limit.
INTARSIA_HOST_DEVICE inline float BinaryScoreOf(const BinaryFactors& row,
                                                const BinaryQueryFactors& query, float product) {
  return fmaf(row.scale * query.step, product, row.offset + query.base);
}
INTARSIA_HOST_DEVICE inline float BinaryLimitOf(const BinaryFactors& row,
                                                const BinaryQueryFactors& query, float score) {
  return fmaf(query.error_bound, row.error, score);
}
INTARSIA_HOST_DEVICE inline float BinaryLowerOf(const BinaryFactors& row,
                                                const BinaryQueryFactors& query, float score) {
  return fmaf(-query.error_bound, row.error, score);
}

// NaN, with which nothing is found, for one that is negative.
INTARSIA_HOST_DEVICE inline float BinaryErrorBoundOf(float error_bound) {
  return error_bound >= 0.0F ? error_bound : nanf("");
}

}  // namespace intarsia::kernels
