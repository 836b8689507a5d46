// Bound: memory; 4 bytes read and 2 or 4 written an element, 4 more read with an addend.
// Design: a row is read three times, the second and third time from the first-level cache; x plus
// addend lies in a scratch row of the run, because `y` may be null.
#include <vector>

#include "kernels/layer_norm.h"
#include "kernels/row_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

float Mean(const float* x, int64_t dim) {
  const F32 d;
  const int64_t lanes = LanesF32();
  VF32 sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= dim; i += lanes) sums = hn::Add(sums, hn::LoadU(d, x + i));
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < dim; ++i) sum += x[i];
  return sum / static_cast<float>(dim);
}

float Variance(const float* x, int64_t dim, float mean) {
  const F32 d;
  const int64_t lanes = LanesF32();
  VF32 sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= dim; i += lanes) {
    const VF32 centred = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    sums = hn::MulAdd(centred, centred, sums);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < dim; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum / static_cast<float>(dim);
}

void LayerNormRows(const LayerNormParams& params, int64_t row_begin, int64_t row_end) {
  const int64_t dim = params.dim;
  std::vector<float> sum(params.addend == nullptr ? 0 : static_cast<size_t>(dim));
  for (int64_t row = row_begin; row < row_end; ++row) {
    const float* x = params.x + row * dim;
    if (params.addend != nullptr) {
      const float* const addend = params.addend + row * dim;
      ForEachVector(dim, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, addend + i)), d, sum.data() + i);
      });
      x = sum.data();
    }
    const float mean = Mean(x, dim);
    const float scale = 1.0f / std::sqrt(Variance(x, dim, mean) + params.epsilon);
    float* const y = params.y == nullptr ? nullptr : params.y + row * dim;
    uint16_t* const y_bf16 = params.y_bf16 == nullptr ? nullptr : params.y_bf16 + row * dim;
    ForEachVector(dim, [&](auto d, int64_t i) HWY_ATTR {
      const auto centred = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
      const auto value = hn::MulAdd(hn::Mul(centred, hn::Set(d, scale)),
                                    hn::LoadU(d, params.gain + i), hn::LoadU(d, params.bias + i));
      if (y != nullptr) hn::StoreU(value, d, y + i);
      if (y_bf16 != nullptr) StoreBf16(d, value, y_bf16 + i);
    });
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(LayerNormRows);

Status LayerNorm(const LayerNormParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckLayerNorm(params));
  const auto run = HWY_DYNAMIC_DISPATCH(LayerNormRows);
  ForEachRowBlock(pool, params.num_rows, params.dim,
                  [&](int64_t begin, int64_t end) { run(params, begin, end); });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
