// MakeTensorMap: what the bulk copies of Hopper need to know about a matrix. For kernels/ alone.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "base/result.h"

namespace intarsia::kernels {

// A matrix of 16-bit elements on the device whose rows follow each other, and the part of it that
// one copy brings: `box_rows` rows of 64 elements, swizzled over 128 bytes.
struct TensorMapShape {
  const void* data = nullptr;  // 16-byte aligned
  int64_t num_rows = 0;        // below 2^31
  int32_t num_columns = 0;     // a multiple of 64
  int32_t box_rows = 0;        // at most 256
};

// Errors: kUnsupported if the driver has no bulk copies or the matrix is too large for them.
Result<CUtensorMap> MakeTensorMap(const TensorMapShape& shape);

}  // namespace intarsia::kernels
