// Bound: compute; 2 * num_tokens * num_deltas * width FLOP at the peak of f32.
// Design: kRows x kVectors accumulators start from the cached values and take one delta row at a
// time, so targets are written once; a panel of deltas stays in the first-level cache for all
// tokens. Rounding deltas to bf16 for the bf16 dot product was not worth it: the product is about
// 1 % of a fused prefill.
#include "kernels/propagate.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/propagate_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

// 6 x 4 accumulators, 4 deltas and a weight fit 32 registers; 6 x 2, 2 and 1 fit 16.
constexpr int kRows = 6;
constexpr int kVectors = hn::MaxLanes(F32()) >= 16 ? 4 : 2;

// One block of targets. Strides are set.
template <int kBlockRows, int kBlockVectors, class D>
HWY_INLINE void PropagateBlock(const PropagateParams& params, D d, int64_t row, int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sums[kBlockRows][kBlockVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    const int64_t offset = (row + r) * params.cached_stride + column;
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) {
      sums[r][v] = params.cached_bf16 != nullptr
                       ? LoadBf16(d, params.cached_bf16 + offset + v * lanes)
                       : hn::LoadU(d, params.cached + offset + v * lanes);
    }
  }
  const float* HWY_RESTRICT deltas = params.deltas + column;
  const float* HWY_RESTRICT weights = params.weights + row * params.weights_stride;
  const int64_t weights_stride = params.weights_stride;
  const int64_t num_deltas = params.num_deltas;
  for (int64_t s = 0; s < num_deltas; ++s) {
    hn::Vec<D> delta[kBlockVectors];
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) delta[v] = hn::LoadU(d, deltas + v * lanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kBlockRows; ++r) {
      const auto weight = hn::Set(d, weights[r * weights_stride + s]);
      HWY_UNROLL(8)
      for (int v = 0; v < kBlockVectors; ++v) {
        sums[r][v] = hn::MulAdd(weight, delta[v], sums[r][v]);
      }
    }
    deltas += params.deltas_stride;
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kBlockRows; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kBlockVectors; ++v) {
      hn::StoreU(sums[r][v], d,
                 params.target + (row + r) * params.target_stride + column + v * lanes);
    }
  }
}

// All tokens of kBlockVectors vectors of columns.
template <int kBlockVectors, class D>
void PropagatePanel(const PropagateParams& params, D d, int64_t column) {
  const int64_t num_tokens = params.num_tokens;
  int64_t row = 0;
  for (; row + kRows <= num_tokens; row += kRows) {
    PropagateBlock<kRows, kBlockVectors>(params, d, row, column);
  }
  switch (num_tokens - row) {
    case 5:
      return PropagateBlock<5, kBlockVectors>(params, d, row, column);
    case 4:
      return PropagateBlock<4, kBlockVectors>(params, d, row, column);
    case 3:
      return PropagateBlock<3, kBlockVectors>(params, d, row, column);
    case 2:
      return PropagateBlock<2, kBlockVectors>(params, d, row, column);
    case 1:
      return PropagateBlock<1, kBlockVectors>(params, d, row, column);
    default:
      return;
  }
}

void PropagateColumns(const PropagateParams& params) {
  const F32 d;
  const int64_t lanes = LanesF32();
  int64_t column = 0;
  for (; column + kVectors * lanes <= params.width; column += kVectors * lanes) {
    PropagatePanel<kVectors>(params, d, column);
  }
  for (; column + lanes <= params.width; column += lanes) PropagatePanel<1>(params, d, column);
  for (; column < params.width; ++column) {
    PropagatePanel<1>(params, hn::CappedTag<float, 1>(), column);
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(PropagateColumns);

Status Propagate(const PropagateParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPropagate(params));
  if (params.num_tokens == 0 || params.width == 0) return Status::Ok();
  PropagateParams full = params;
  if (full.cached_stride == 0) full.cached_stride = full.width;
  if (full.target_stride == 0) full.target_stride = full.width;
  if (full.deltas_stride == 0) full.deltas_stride = full.width;
  if (full.weights_stride == 0) full.weights_stride = full.num_deltas;
  if (full.num_deltas == 0) {
    // Never read; but a null pointer may not be moved.
    full.deltas = full.target;
    full.weights = full.target;
  }
  HWY_DYNAMIC_DISPATCH(PropagateColumns)(full);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
