// Stands in for CUDA's header of this name, as far as kernels on rows use it.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "kernels/convert.h"

struct __nv_bfloat162 {
  uint16_t x, y;
};

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {intarsia::kernels::F32ToBf16(x), intarsia::kernels::F32ToBf16(y)};
}
