// Bound: about 20 instructions a vector; memory once a row leaves the second-level cache.
// Design: exponentials are summed in f32 by blocks and over blocks in double.
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

// The largest element that is not NaN, -infinity if there is none.
float Largest(const float* x, int64_t num_elements) {
  const F32 d;
  const int64_t lanes = LanesF32();
  const VF32 least = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF32 largest = least;
  int64_t i = 0;
  for (; i + lanes <= num_elements; i += lanes) {
    const VF32 value = hn::LoadU(d, x + i);
    // A comparison with NaN is false, so NaN never gets in.
    largest = hn::IfThenElse(hn::Gt(value, largest), value, largest);
  }
  float result = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < num_elements; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// exp((x - largest) * scale), summed and, unless `target` is null, written.
double SumExp(const float* x, int64_t num_elements, float largest, float scale, float* target) {
  constexpr int64_t kBlock = 1024;
  double total = 0.0;
  for (int64_t begin = 0; begin < num_elements; begin += kBlock) {
    const int64_t count = HWY_MIN(kBlock, num_elements - begin);
    const F32 full;
    VF32 sums = hn::Zero(full);
    float rest = 0.0f;
    ForEachVector(count, [&](auto d, int64_t i) HWY_ATTR {
      const auto centred = hn::Sub(hn::LoadU(d, x + begin + i), hn::Set(d, largest));
      const auto value = Exp(d, hn::Mul(centred, hn::Set(d, scale)));
      if (target != nullptr) hn::StoreU(value, d, target + begin + i);
      if constexpr (std::is_same_v<decltype(d), F32>) {
        sums = hn::Add(sums, value);
      } else {
        rest += hn::GetLane(value);
      }
    });
    total += hn::GetLane(hn::SumOfLanes(full, sums)) + rest;
  }
  return total;
}

void Multiply(float factor, int64_t num_elements, float* x) {
  ForEachVector(num_elements, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

int64_t IndexOf(const float* x, int64_t num_elements, float wanted) {
  const F32 d;
  const int64_t lanes = LanesF32();
  int64_t i = 0;
  for (; i + lanes <= num_elements; i += lanes) {
    const intptr_t lane = hn::FindFirstTrue(d, hn::Eq(hn::LoadU(d, x + i), hn::Set(d, wanted)));
    if (lane >= 0) return i + lane;
  }
  for (; i < num_elements; ++i) {
    if (x[i] == wanted) return i;
  }
  return -1;
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(Largest);
HWY_EXPORT(SumExp);
HWY_EXPORT(Multiply);
HWY_EXPORT(IndexOf);

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The body of both; without a finite maximum there is nothing to sum.
float LogSumExpInto(const float* x, int64_t num_elements, float temperature, float* target) {
  INTARSIA_CHECK(temperature > 0.0f);
  const float largest = HWY_DYNAMIC_DISPATCH(Largest)(x, num_elements);
  if (largest == -kInfinity) {
    float result = -kInfinity;
    for (int64_t i = 0; i < num_elements; ++i) {
      if (std::isnan(x[i])) result = x[i];
    }
    const float fill = std::isnan(result) ? result : 0.0f;
    for (int64_t i = 0; target != nullptr && i < num_elements; ++i) target[i] = fill;
    return result;
  }
  // Finite, so that the largest element times it is 0 and not NaN.
  const float scale = std::fmin(1.0f / temperature, std::numeric_limits<float>::max());
  const double sum = HWY_DYNAMIC_DISPATCH(SumExp)(x, num_elements, largest, scale, target);
  if (target != nullptr) {
    HWY_DYNAMIC_DISPATCH(Multiply)(static_cast<float>(1.0 / sum), num_elements, target);
  }
  return static_cast<float>(double{largest} * scale + std::log(sum));
}

}  // namespace

float LogSumExp(const float* x, int64_t num_elements, float temperature) {
  return LogSumExpInto(x, num_elements, temperature, nullptr);
}

float Softmax(const float* x, int64_t num_elements, float temperature, float* probabilities) {
  return LogSumExpInto(x, num_elements, temperature, probabilities);
}

int64_t ArgMax(const float* x, int64_t num_elements) {
  const float largest = HWY_DYNAMIC_DISPATCH(Largest)(x, num_elements);
  return HWY_DYNAMIC_DISPATCH(IndexOf)(x, num_elements, largest);
}

}  // namespace intarsia::kernels
#endif
