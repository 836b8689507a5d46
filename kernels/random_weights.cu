// Bound: memory. 2 bytes an element.
// Design: a thread a vector, from a hash of the element's index.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/cuda_status.h"
#include "kernels/random_draw.h"
#include "kernels/random_weights.h"

namespace intarsia::kernels {
namespace {

struct RandomWeightsTraits {
  static constexpr int kThreads = 256;
  static constexpr int kBlocksMax = 132 * 16;
};

// Grid: any number of blocks, which take every gridDim.x-th vector of kThreads.
__global__ void __launch_bounds__(RandomWeightsTraits::kThreads)
    RandomWeightsKernel(const __grid_constant__ RandomWeightsParams params) {
  constexpr int64_t kBlockElements = RandomWeightsTraits::kThreads * kVectorElements;
  for (int64_t first =
           int64_t{blockIdx.x} * kBlockElements + int64_t{threadIdx.x} * kVectorElements;
       first < params.size; first += gridDim.x * kBlockElements) {
    Floats8 floats;
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) {
      floats.at[i] = RandomWeightAt(params.seed, first + i, params.deviation);
    }
    StoreBf16Vector(floats, params.y + first);
  }
}

}  // namespace

Status RandomWeightsCuda(const RandomWeightsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckRandomWeights(params));
  if (params.size == 0) return Status::Ok();
  RandomWeightsKernel<<<RandomWeightsTraits::kBlocksMax, RandomWeightsTraits::kThreads, 0,
                        stream>>>(params);
  return CudaStatus(cudaGetLastError(), "random weights launch");
}

}  // namespace intarsia::kernels
