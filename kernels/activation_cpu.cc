// Bound: memory for large arrays (8 to 12 bytes an element), else about 20 instructions a vector.
// Design: all three are x times a sigmoid or a normal distribution, each from one exp; no table.
#include "kernels/activation.h"
#include "kernels/row_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

// Keeps the left end finite, where all three are 0 long before; NaN stays.
template <class D, class V>
HWY_INLINE V ClampLeft(D d, V x) {
  const auto least = hn::Set(d, -1000.0f);
  return hn::IfThenElse(hn::Lt(x, least), least, x);
}

struct Silu {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto clamped = ClampLeft(d, x);
    return hn::Div(clamped, hn::Add(Exp(d, hn::Neg(clamped)), hn::Set(d, 1.0f)));
  }
};

// (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u))
struct GeluTanh {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto clamped = ClampLeft(d, x);
    const auto square = hn::Mul(clamped, clamped);
    const auto slope = hn::MulAdd(square, hn::Set(d, -2.0f * 0.79788456080f * 0.044715f),
                                  hn::Set(d, -2.0f * 0.79788456080f));
    return hn::Div(clamped, hn::Add(Exp(d, hn::Mul(slope, clamped)), hn::Set(d, 1.0f)));
  }
};

// erfc(z) = t (a1 + ... + a5 t^4) exp(-z^2) with t = 1 / (1 + p z), z >= 0, within 1.5e-7
// (Abramowitz and Stegun 7.1.26); x times it is subtracted from the side where the result is 0.
struct GeluErf {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const auto size = hn::Min(hn::Abs(x), hn::Set(d, 1000.0f));
    const auto z = hn::Mul(size, hn::Set(d, 0.70710678118f));
    const auto one = hn::Set(d, 1.0f);
    const auto t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.3275911f), one));
    auto p = hn::Set(d, 1.061405429f);
    p = hn::MulAdd(p, t, hn::Set(d, -1.453152027f));
    p = hn::MulAdd(p, t, hn::Set(d, 1.421413741f));
    p = hn::MulAdd(p, t, hn::Set(d, -0.284496736f));
    p = hn::MulAdd(p, t, hn::Set(d, 0.254829592f));
    const auto erfc = hn::Mul(hn::Mul(p, t), Exp(d, hn::Neg(hn::Mul(z, z))));
    const auto tail = hn::Mul(hn::Mul(size, hn::Set(d, 0.5f)), erfc);
    const auto positive = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), x);
    return hn::IfThenElse(hn::IsNaN(x), x, hn::Sub(positive, tail));
  }
};

template <class Function>
HWY_INLINE void ActivateRows(const ActivationParams& params, int64_t row_begin, int64_t row_end,
                             const Function& function) {
  const int64_t x_stride = params.x_stride == 0 ? params.dim : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? params.dim : params.y_stride;
  for (int64_t row = row_begin; row < row_end; ++row) {
    const float* const x = params.x + row * x_stride;
    const float* const up = params.up == nullptr ? nullptr : params.up + row * x_stride;
    float* const y = params.y == nullptr ? nullptr : params.y + row * y_stride;
    uint16_t* const y_bf16 = params.y_bf16 == nullptr ? nullptr : params.y_bf16 + row * y_stride;
    ForEachVector(params.dim, [&](auto d, int64_t i) HWY_ATTR {
      auto value = function(d, hn::LoadU(d, x + i));
      if (up != nullptr) value = hn::Mul(value, hn::LoadU(d, up + i));
      if (y != nullptr) hn::StoreU(value, d, y + i);
      if (y_bf16 != nullptr) StoreBf16(d, value, y_bf16 + i);
    });
  }
}

void ActivateRange(const ActivationParams& params, int64_t row_begin, int64_t row_end) {
  switch (params.kind) {
    case Activation::kSilu:
      return ActivateRows(params, row_begin, row_end, Silu());
    case Activation::kGeluTanh:
      return ActivateRows(params, row_begin, row_end, GeluTanh());
    case Activation::kGeluErf:
      return ActivateRows(params, row_begin, row_end, GeluErf());
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(ActivateRange);

Status Activate(const ActivationParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckActivation(params));
  const auto run = HWY_DYNAMIC_DISPATCH(ActivateRange);
  ForEachRowBlock(pool, params.num_rows, params.dim,
                  [&](int64_t begin, int64_t end) { run(params, begin, end); });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
