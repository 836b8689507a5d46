// Bound: memory; 6 bytes an element.
// Design: integer arithmetic on the bits, so that every instruction set rounds alike.
#include "kernels/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/convert_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

void RoundArray(const float* source, int64_t num_elements, uint16_t* target) {
  ForEachVector(num_elements, [&](auto d, int64_t i)
                                  HWY_ATTR { StoreBf16(d, hn::LoadU(d, source + i), target + i); });
}

void WidenArray(const uint16_t* source, int64_t num_elements, float* target) {
  ForEachVector(num_elements, [&](auto d, int64_t i)
                                  HWY_ATTR { hn::StoreU(LoadBf16(d, source + i), d, target + i); });
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(RoundArray);
HWY_EXPORT(WidenArray);

void F32ToBf16(const float* source, int64_t num_elements, uint16_t* target) {
  HWY_DYNAMIC_DISPATCH(RoundArray)(source, num_elements, target);
}

void Bf16ToF32(const uint16_t* source, int64_t num_elements, float* target) {
  HWY_DYNAMIC_DISPATCH(WidenArray)(source, num_elements, target);
}

}  // namespace intarsia::kernels
#endif
