// HadamardRotate: a random rotation of a vector in O(dim log dim), for dimensions of any size.
//
// Round r flips signs and applies a normalised Walsh-Hadamard transform of T elements, the largest
// power of two up to dim: to the first T in even rounds and to the last T in odd ones, which
// overlap unless dim = T. Every round is orthogonal, so lengths and inner products are kept; after
// four, the coordinates of any fixed vector are close to Gaussian.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

struct HadamardRotateParams {
  const float* input = nullptr;  // [dim]
  const float* signs = nullptr;  // [num_rounds, dim], each 1 or -1
  int64_t dim = 0;               // a multiple of 64, at most 65,536
  int64_t num_rounds = 0;        // at least 1
  float* output = nullptr;       // [dim]; may be `input`
};

// Errors: kInvalidArgument for a null pointer or a size out of range.
Status HadamardRotate(const HadamardRotateParams& params);

// The definition: the transform as a matrix, double accumulation.
Status HadamardRotateReference(const HadamardRotateParams& params);

}  // namespace intarsia::kernels
