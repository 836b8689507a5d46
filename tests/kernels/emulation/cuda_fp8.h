// Stands in for CUDA's header of this name, as far as kernels on rows use it.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "kernels/e4m3.h"
#include "tests/kernels/emulation/cuda_runtime.h"

enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

inline uint16_t __nv_cvt_float2_to_fp8x2(float2 x, __nv_saturation_t, __nv_fp8_interpretation_t) {
  return static_cast<uint16_t>(intarsia::kernels::F32ToE4m3(x.x) | intarsia::kernels::F32ToE4m3(x.y)
                                                                       << 8);
}
