// Bound: memory; the covariance is read and written once, 8 bytes an element, mostly from the
// second-level cache.
// Design: a row's share of the new sums needs one dot product with the weighted column,
//   sum' = sum - 2 a_u (C[:, u] . w c) + a_u^2 (c . w c),   a_u = c_u / (c_pivot + noise)
// after which the row is updated while it is still in the first-level cache.
#include "kernels/condition_covariance.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/condition_covariance_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/vector_math.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {

float Dot(const float* a, const float* b, int64_t size) {
  const F32 d;
  const int64_t lanes = LanesF32();
  VF32 sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * lanes <= size; i += 4 * lanes) {
    HWY_UNROLL(4)
    for (int j = 0; j < 4; ++j) {
      sums[j] =
          hn::MulAdd(hn::LoadU(d, a + i + j * lanes), hn::LoadU(d, b + i + j * lanes), sums[j]);
    }
  }
  float sum =
      hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  for (; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

void Condition(const ConditionCovarianceParams& params) {
  const int64_t size = params.size;
  float* const column = params.workspace;
  float* const weighted = column + size;
  // The matrix is symmetric, so the column is a row.
  const float* const pivot_row = params.covariance + params.pivot * params.stride;
  for (int64_t t = 0; t < size; ++t) {
    column[t] = pivot_row[t];
    weighted[t] = column[t] * params.weights[t];
  }
  const float scale = 1.0f / (column[params.pivot] + params.noise);
  const float square = Dot(column, weighted, size);
  for (int64_t u = 0; u < size; ++u) {
    float* const row = params.covariance + u * params.stride;
    const float factor = column[u] * scale;
    params.square_sums[u] += factor * (factor * square - 2.0f * Dot(row, weighted, size));
    ForEachVector(size, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::NegMulAdd(hn::Set(d, factor), hn::LoadU(d, column + i), hn::LoadU(d, row + i)),
                 d, row + i);
    });
  }
}

}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(Condition);

Status ConditionCovariance(const ConditionCovarianceParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckConditionCovariance(params));
  HWY_DYNAMIC_DISPATCH(Condition)(params);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
