// Bound: memory. 14 bytes an element with an addend (hidden read and written, addend read, y
// written), 6 without; a byte less where y is e4m3.
// Design: a block a row, which stays in registers between the sums and the output.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/fp8_row.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/residual_norm.h"
#include "kernels/row_traits.cuh"

namespace intarsia::kernels {
namespace {

// Grid: num_rows. Block: kThreads.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    ResidualNormKernel(const __grid_constant__ ResidualNormParams params) {
  __shared__ float scratch[2][Traits::kWarps];
  __shared__ uint32_t absmax_scratch[Traits::kWarps];
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t first = int64_t{blockIdx.x} * params.dim;
  const auto column_of = [](int i) {
    return (int64_t{i} * Traits::kThreads + threadIdx.x) * kVectorElements;
  };
  Floats8 hidden[Traits::kVectors];
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    if (column_of(i) < params.dim) hidden[i] = LoadFloats8(params.hidden + first + column_of(i));
  }

  if (params.addend != nullptr) {
    Floats8 addend[Traits::kVectors];
    float square_sum = 0.0F;
#pragma unroll
    for (int i = 0; i < Traits::kVectors; ++i) {
      if (column_of(i) >= params.dim) continue;
      addend[i] = LoadBf16Vector(params.addend + first + column_of(i));
      square_sum += SumOfSquares(addend[i]);
    }
    float scale = 1.0F;
    if (params.addend_weight != nullptr) {
      const float sum = BlockSum<Traits::kThreads>(square_sum, scratch[0]);
      scale = rsqrtf(sum / static_cast<float>(params.dim) + params.epsilon);
    }
#pragma unroll
    for (int i = 0; i < Traits::kVectors; ++i) {
      if (column_of(i) >= params.dim) continue;
      if (params.addend_weight != nullptr) {
        const Floats8 weight = LoadFloats8(params.addend_weight + column_of(i));
#pragma unroll
        for (int j = 0; j < kVectorElements; ++j) addend[i].at[j] *= scale * weight.at[j];
      }
#pragma unroll
      for (int j = 0; j < kVectorElements; ++j) hidden[i].at[j] += addend[i].at[j];
      StoreFloats8(hidden[i], params.hidden + first + column_of(i));
    }
  }

  float square_sum = 0.0F;
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    if (column_of(i) < params.dim) square_sum += SumOfSquares(hidden[i]);
  }
  const float sum = BlockSum<Traits::kThreads>(square_sum, scratch[1]);
  const float scale = rsqrtf(sum / static_cast<float>(params.dim) + params.epsilon);
  uint4 y[Traits::kVectors];
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    if (column_of(i) >= params.dim) continue;
    const Floats8 weight = LoadFloats8(params.weight + column_of(i));
#pragma unroll
    for (int j = 0; j < kVectorElements; ++j) hidden[i].at[j] *= scale * weight.at[j];
    y[i] = PackBf16Vector(hidden[i]);
    if (params.y != nullptr) *reinterpret_cast<uint4*>(params.y + first + column_of(i)) = y[i];
  }
  if (params.y != nullptr) return;
  StoreFp8Row<Traits::kThreads>(y, blockIdx.x, params.dim, params.y_fp8, absmax_scratch);
}

}  // namespace

Status ResidualNormCuda(const ResidualNormParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckResidualNorm(params));
  if (params.num_rows == 0) return Status::Ok();
  return LaunchForWidth<1, 2, 8>("residual norm", params.dim, [&]<typename Traits>(Traits) {
    return LaunchBehind("residual norm launch", ResidualNormKernel<Traits>,
                        {.num_blocks = static_cast<unsigned>(params.num_rows),
                         .num_threads = Traits::kThreads,
                         .stream = stream},
                        params);
  });
}

}  // namespace intarsia::kernels
