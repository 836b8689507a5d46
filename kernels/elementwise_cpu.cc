// Bound: memory; 8 to 12 bytes an element.
#include "base/check.h"
#include "kernels/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

void AddArray(const float* addend, int64_t num_elements, float* target) {
  ForEachVector(num_elements, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, target + i), hn::LoadU(d, addend + i)), d, target + i);
  });
}

void ScaleArray(float factor, int64_t num_elements, float* x) {
  ForEachVector(num_elements, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

void SoftcapArray(float cap, int64_t num_elements, float* x) {
  const float inverse = 1.0f / cap;
  ForEachVector(num_elements, [&](auto d, int64_t i) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
    hn::StoreU(hn::Mul(Tanh(d, scaled), hn::Set(d, cap)), d, x + i);
  });
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(AddArray);
HWY_EXPORT(ScaleArray);
HWY_EXPORT(SoftcapArray);

void AddTo(const float* addend, int64_t num_elements, float* target) {
  HWY_DYNAMIC_DISPATCH(AddArray)(addend, num_elements, target);
}

void Scale(float factor, int64_t num_elements, float* x) {
  HWY_DYNAMIC_DISPATCH(ScaleArray)(factor, num_elements, x);
}

void Softcap(float cap, int64_t num_elements, float* x) {
  INTARSIA_CHECK(cap > 0.0f);
  HWY_DYNAMIC_DISPATCH(SoftcapArray)(cap, num_elements, x);
}

}  // namespace intarsia::kernels
#endif
