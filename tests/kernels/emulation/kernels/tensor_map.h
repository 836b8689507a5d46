// Stands in for the header of this name in kernels/.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "tests/kernels/emulation/cuda.h"

namespace intarsia::kernels {

struct TensorMapShape {
  const void* data = nullptr;
  int64_t num_rows = 0;
  int32_t num_columns = 0;
  int32_t box_rows = 0;
};

inline Result<CUtensorMap> MakeTensorMap(const TensorMapShape& shape) {
  return CUtensorMap{static_cast<const uint16_t*>(shape.data), shape.num_rows, shape.num_columns,
                     shape.box_rows};
}

}  // namespace intarsia::kernels
