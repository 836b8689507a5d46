// Bound: memory; 8 bytes an element and the angles once a token.
// Design: a token's angles stay in the first-level cache for all its heads.
#include <cstring>

#include "kernels/rope.h"
#include "kernels/row_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

void RotateHalfSplit(const float* x, const float* cosines, const float* sines, int64_t num_pairs,
                     float* y) {
  ForEachVector(num_pairs, [&](auto d, int64_t i) HWY_ATTR {
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, x + num_pairs + i);
    const auto c = hn::LoadU(d, cosines + i);
    const auto s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, y + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, y + num_pairs + i);
  });
}

void RotateInterleaved(const float* x, const float* cosines, const float* sines, int64_t num_pairs,
                       float* y) {
  const F32 d;
  const int64_t lanes = LanesF32();
  int64_t i = 0;
  for (; i + lanes <= num_pairs; i += lanes) {
    VF32 a;
    VF32 b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const VF32 c = hn::LoadU(d, cosines + i);
    const VF32 s = hn::LoadU(d, sines + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d,
                          y + 2 * i);
  }
  for (; i < num_pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    y[2 * i] = a * cosines[i] - b * sines[i];
    y[2 * i + 1] = b * cosines[i] + a * sines[i];
  }
}

void RotateTokens(const ApplyRopeParams& params, int64_t token_begin, int64_t token_end) {
  const int64_t row_size = int64_t{params.num_heads} * params.head_dim;
  const int64_t x_stride = params.x_stride == 0 ? row_size : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? row_size : params.y_stride;
  const int64_t num_pairs = params.rotary_dim / 2;
  const int64_t num_rest = params.head_dim - params.rotary_dim;
  for (int64_t token = token_begin; token < token_end; ++token) {
    const float* const cosines = params.cosines + token * num_pairs;
    const float* const sines = params.sines + token * num_pairs;
    for (int64_t head = 0; head < params.num_heads; ++head) {
      const float* const x = params.x + token * x_stride + head * params.head_dim;
      float* const y = params.y + token * y_stride + head * params.head_dim;
      if (params.pairing == RopePairing::kHalfSplit) {
        RotateHalfSplit(x, cosines, sines, num_pairs, y);
      } else {
        RotateInterleaved(x, cosines, sines, num_pairs, y);
      }
      if (num_rest > 0 && x != y) {
        std::memcpy(y + params.rotary_dim, x + params.rotary_dim,
                    static_cast<size_t>(num_rest) * sizeof(float));
      }
    }
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(RotateTokens);

Status ApplyRope(const ApplyRopeParams& params, ThreadPool* pool) {
  if (params.num_tokens == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckApplyRope(params));
  const auto run = HWY_DYNAMIC_DISPATCH(RotateTokens);
  ForEachRowBlock(pool, params.num_tokens, int64_t{params.num_heads} * params.head_dim,
                  [&](int64_t begin, int64_t end) { run(params, begin, end); });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
