// Bound: compute, num_rounds * T * log2(T) additions on data that stays in the first cache.
// Design: butterflies in place, in vectors as wide as the distance between partners allows.
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "kernels/hadamard_rotate.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/hadamard_rotate_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Partners are `distance` >= Lanes(d) apart.
template <class D>
HWY_INLINE void Stage(D d, float* HWY_RESTRICT x, int64_t size, int64_t distance) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < size; i += 2 * distance) {
    for (int64_t j = i; j < i + distance; j += lanes) {
      const auto a = hn::LoadU(d, x + j);
      const auto b = hn::LoadU(d, x + j + distance);
      hn::StoreU(hn::Add(a, b), d, x + j);
      hn::StoreU(hn::Sub(a, b), d, x + j + distance);
    }
  }
}

// The stages with distances 1 and 2 of four neighbours.
HWY_INLINE void FirstStages(float* HWY_RESTRICT x, int64_t size) {
  for (int64_t i = 0; i < size; i += 4) {
    const float a = x[i] + x[i + 1];
    const float b = x[i] - x[i + 1];
    const float c = x[i + 2] + x[i + 3];
    const float e = x[i + 2] - x[i + 3];
    x[i] = a + c;
    x[i + 1] = b + e;
    x[i + 2] = a - c;
    x[i + 3] = b - e;
  }
}

HWY_INLINE void Transform(float* HWY_RESTRICT x, int64_t size) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 4> d4;
  FirstStages(x, size);
  for (int64_t distance = 4; distance < size; distance *= 2) {
    if (distance >= static_cast<int64_t>(hn::Lanes(d))) {
      Stage(d, x, size, distance);
    } else {
      Stage(d4, x, size, distance);
    }
  }
}

// y *= scale * factors, element by element.
HWY_INLINE void Scale(const float* HWY_RESTRICT factors, float scale, int64_t size,
                      float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < size; i += lanes) {
    const auto factor = hn::Mul(hn::LoadU(d, factors + i), hn::Set(d, scale));
    hn::StoreU(hn::Mul(hn::LoadU(d, y + i), factor), d, y + i);
  }
}

void RotateLoop(const HadamardRotateParams& params) {
  const auto width = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(params.dim)));
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  if (params.output != params.input) {
    std::copy(params.input, params.input + params.dim, params.output);
  }
  for (int64_t round = 0; round < params.num_rounds; ++round) {
    const float* signs = params.signs + round * params.dim;
    const int64_t first = round % 2 == 0 ? 0 : params.dim - width;
    Scale(signs, 1.0F, first, params.output);
    Scale(signs + first, scale, width, params.output + first);
    const int64_t behind = first + width;
    Scale(signs + behind, 1.0F, params.dim - behind, params.output + behind);
    Transform(params.output + first, width);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(RotateLoop);

Status HadamardRotate(const HadamardRotateParams& params) {
  if (params.dim < 64 || params.dim > 65'536 || params.dim % 64 != 0 || params.num_rounds < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "hadamard rotate: size out of range: dim=" + std::to_string(params.dim) +
                      " num_rounds=" + std::to_string(params.num_rounds));
  }
  if (params.input == nullptr || params.signs == nullptr || params.output == nullptr) {
    return Status(StatusCode::kInvalidArgument, "hadamard rotate: null pointer");
  }
  HWY_DYNAMIC_DISPATCH(RotateLoop)(params);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
