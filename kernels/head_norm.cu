// Bound: memory. 4 bytes an element.
// Design: a warp a head, one vector a lane, which covers head_dim <= 256.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/head_norm.h"

namespace intarsia::kernels {
namespace {

struct HeadNormTraits {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpLanes;
};

// Grid: ceil(num_rows * num_heads / kWarps). Block: kWarps warps, a head each.
__global__ void __launch_bounds__(HeadNormTraits::kThreads)
    HeadNormKernel(const __grid_constant__ HeadNormParams params) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int num_heads = params.num_q_heads + params.num_k_heads;
  const int64_t index = int64_t{blockIdx.x} * HeadNormTraits::kWarps + threadIdx.x / kWarpLanes;
  if (index >= params.num_rows * num_heads) return;
  const int64_t row = index / num_heads;
  const int head = static_cast<int>(index % num_heads);
  const int column = static_cast<int>(threadIdx.x % kWarpLanes) * kVectorElements;
  uint16_t* const x = params.heads + row * params.stride + int64_t{head} * params.head_dim + column;
  const bool is_inside = column < params.head_dim;
  Floats8 floats = is_inside ? LoadBf16Vector(x) : Floats8{};
  const float sum = WarpSum(SumOfSquares(floats));
  if (!is_inside) return;
  const float scale = rsqrtf(sum / static_cast<float>(params.head_dim) + params.epsilon);
  const Floats8 weight =
      LoadFloats8((head < params.num_q_heads ? params.q_weight : params.k_weight) + column);
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) floats.at[i] *= scale * weight.at[i];
  StoreBf16Vector(floats, x);
}

}  // namespace

Status HeadNormCuda(const HeadNormParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckHeadNorm(params));
  if (params.num_rows == 0) return Status::Ok();
  const int64_t num_warps = params.num_rows * (params.num_q_heads + params.num_k_heads);
  const int64_t num_blocks = (num_warps + HeadNormTraits::kWarps - 1) / HeadNormTraits::kWarps;
  if (num_blocks > INT32_MAX) {
    return Status(StatusCode::kInvalidArgument, "head norm: too many heads for one launch");
  }
  return LaunchBehind("head norm launch", HeadNormKernel,
                      {.num_blocks = static_cast<unsigned>(num_blocks),
                       .num_threads = HeadNormTraits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace intarsia::kernels
