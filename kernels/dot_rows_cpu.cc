// Bound: memory, 4 * dim bytes a row. Design: four accumulators hide the latency of the additions;
// the sum over them has a fixed order, so a row's bits do not depend on its neighbours.
#include <string>

#include "kernels/dot_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dot_rows_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t dim) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto sum2 = hn::Zero(d);
  auto sum3 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= dim; i += 4 * lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
    sum2 = hn::MulAdd(hn::LoadU(d, a + i + 2 * lanes), hn::LoadU(d, b + i + 2 * lanes), sum2);
    sum3 = hn::MulAdd(hn::LoadU(d, a + i + 3 * lanes), hn::LoadU(d, b + i + 3 * lanes), sum3);
  }
  for (; i + lanes <= dim; i += lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
  }
  const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < dim; ++i) total += a[i] * b[i];
  return total;
}

void DotRowsLoop(const DotRowsParams& params) {
  for (int64_t i = 0; i < params.num_rows; ++i) {
    const float* const row =
        params.row_pointers != nullptr ? params.row_pointers[i] : params.rows + i * params.dim;
    params.scores[i] = Dot(params.query, row, params.dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(DotRowsLoop);

Status DotRows(const DotRowsParams& params) {
  if (params.num_rows < 0 || params.dim < 1) {
    return Status(StatusCode::kInvalidArgument,
                  "dot rows: size out of range: num_rows=" + std::to_string(params.num_rows) +
                      " dim=" + std::to_string(params.dim));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (params.query == nullptr || params.scores == nullptr ||
      (params.rows == nullptr && params.row_pointers == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "dot rows: null pointer");
  }
  HWY_DYNAMIC_DISPATCH(DotRowsLoop)(params);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
