// Bound: memory. 3 bytes an element: read in bf16, written in e4m3.
// Design: a block a row, which stays in registers between its largest number and the codes.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/fp8_row.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/quantize_rows.h"
#include "kernels/row_traits.cuh"

namespace intarsia::kernels {
namespace {

// Grid: num_rows. Block: kThreads.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    QuantizeRowsKernel(const __grid_constant__ QuantizeRowsParams params) {
  __shared__ uint32_t scratch[Traits::kWarps];
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t row = blockIdx.x;
  uint4 vectors[Traits::kVectors];
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    const int64_t column = (int64_t{i} * Traits::kThreads + threadIdx.x) * kVectorElements;
    if (column >= params.dim) continue;
    vectors[i] = *reinterpret_cast<const uint4*>(params.x + row * params.dim + column);
  }
  StoreFp8Row<Traits::kThreads>(vectors, row, params.dim, params.y, scratch);
}

}  // namespace

Status QuantizeRowsCuda(const QuantizeRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckQuantizeRows(params));
  if (params.num_rows == 0) return Status::Ok();
  return LaunchForWidth<1, 2, 8, 16>("quantize rows", params.dim, [&]<typename Traits>(Traits) {
    return LaunchBehind("quantize rows launch", QuantizeRowsKernel<Traits>,
                        {.num_blocks = static_cast<unsigned>(params.num_rows),
                         .num_threads = Traits::kThreads,
                         .stream = stream},
                        params);
  });
}

}  // namespace intarsia::kernels
