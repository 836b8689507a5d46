// Bound: memory; 4 bytes read and 2 or 4 written an element, 12 more with an addend.
// Design: a row is read twice, the second time from the first-level cache.
#include <string>

#include "kernels/rms_norm.h"
#include "kernels/row_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

// Two chains of additions, because one is bound by their latency.
float SquareSum(const float* x, int64_t dim) {
  const F32 d;
  const int64_t lanes = LanesF32();
  VF32 even = hn::Zero(d);
  VF32 odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= dim; i += 2 * lanes) {
    const VF32 a = hn::LoadU(d, x + i);
    const VF32 b = hn::LoadU(d, x + i + lanes);
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < dim; ++i) sum += x[i] * x[i];
  return sum;
}

void NormalizeRow(const RmsNormParams& params, const float* x, float inverse_rms, int64_t offset) {
  const float* const weight = params.weight;
  float* const y = params.y == nullptr ? nullptr : params.y + offset;
  uint16_t* const y_bf16 = params.y_bf16 == nullptr ? nullptr : params.y_bf16 + offset;
  ForEachVector(params.dim, [&](auto d, int64_t i) HWY_ATTR {
    auto value = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse_rms));
    if (weight != nullptr) value = hn::Mul(value, hn::LoadU(d, weight + i));
    if (y != nullptr) hn::StoreU(value, d, y + i);
    if (y_bf16 != nullptr) StoreBf16(d, value, y_bf16 + i);
  });
}

void RmsNormRows(const RmsNormParams& params, int64_t row_begin, int64_t row_end) {
  const int64_t row_size = params.num_groups * params.dim;
  const int64_t x_stride = params.x_stride == 0 ? row_size : params.x_stride;
  const int64_t y_stride = params.y_stride == 0 ? row_size : params.y_stride;
  for (int64_t row = row_begin; row < row_end; ++row) {
    const float* x = params.x + row * x_stride;
    if (params.addend != nullptr) {
      const float* const addend = params.addend + row * row_size;
      float* const sum = params.sum + row * x_stride;
      ForEachVector(row_size, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, addend + i)), d, sum + i);
      });
      x = sum;
    }
    for (int64_t group = 0; group < params.num_groups; ++group) {
      const float* const values = x + group * params.dim;
      const float mean = SquareSum(values, params.dim) / static_cast<float>(params.dim);
      NormalizeRow(params, values, 1.0f / std::sqrt(mean + params.epsilon),
                   row * y_stride + group * params.dim);
    }
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(RmsNormRows);

Status RmsNorm(const RmsNormParams& params, ThreadPool* pool) {
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(CheckRmsNorm(params));
  const auto run = HWY_DYNAMIC_DISPATCH(RmsNormRows);
  ForEachRowBlock(pool, params.num_rows, params.num_groups * params.dim,
                  [&](int64_t begin, int64_t end) { run(params, begin, end); });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
