// SpdSolve: systems with a symmetric positive definite matrix, in double, by Cholesky's factors.
//
// Made for the weights of propagation: A is the kernel matrix of a chunk's recomputed tokens
// (about 90 x 90; 800 x 800 without the block structure), the right-hand sides are one per token.
// A = L L^T is factored once; X = A^-1 B is SolveLower followed by SolveLowerTransposed, and the
// causal form stops between the two.
//
// Thread safety: all functions may be called concurrently on distinct outputs; one thread each.
// Right-hand sides are columns, so callers may split them into runs of columns.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

// A square matrix, row-major; element (i, j) is data[i * stride + j].
struct SquareMatrix {
  double* data = nullptr;
  int64_t size = 0;    // >= 0
  int64_t stride = 0;  // >= size
};

// Right-hand sides, overwritten by the solution: [size, num_columns], row-major.
struct RightHandSides {
  double* data = nullptr;
  int64_t num_columns = 0;  // >= 0
  int64_t stride = 0;       // >= num_columns
};

// Overwrites the lower triangle of `a`, diagonal included, with L; reads nothing above it and
// leaves that alone.
// Errors: kInvalidArgument if `a` is not positive definite to working accuracy (a NaN counts), with
// the row in the message, or for a bad size; `a` is then partly overwritten.
Status Cholesky(const SquareMatrix& a);

// b = L^-1 b, with the lower triangle of `l`. Errors: kInvalidArgument for bad sizes.
Status SolveLower(const SquareMatrix& l, const RightHandSides& b);

// b = L^-T b. Errors: as SolveLower.
Status SolveLowerTransposed(const SquareMatrix& l, const RightHandSides& b);

}  // namespace intarsia::kernels
