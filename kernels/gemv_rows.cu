// Bound: memory. 2 bytes a weight, read once.
// Design: a block stays and takes tiles of 16 outputs. Its eight warps share a tile's inputs, 64 at
// a time, and multiply by mma.m16n8k16 with outputs as rows and x as columns, so that up to 8 rows
// cost what one does. Fragments come from memory as they are needed, 16 bytes a lane: the order of
// k within a product is free as long as both sides agree, so a lane's eight neighbours are its
// parts of two products. kDepth steps are under way in each warp, over the ends of tiles, and the
// first of them before the kernels in front have ended.
#include <algorithm>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "kernels/gemv_rows.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

struct GemvTraits {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kTileOutputs = 16;
  static constexpr int kStepInputs = 64;  // of a warp
  static constexpr int kBlockInputs = kStepInputs * kWarps;
  static constexpr int kDepth = 3;
  static constexpr int kBlocksPerMultiprocessor = 2;
};

// What a lane holds of a step: of two outputs, g and g + 8, and of row g of x, the inputs
// [8 t, 8 t + 8) of both halves of the step.
struct GemvStep {
  uint4 weights[2][2];  // [output][half]
  uint4 x[2];           // [half]
};

__device__ __forceinline__ uint4 LoadOnce(const uint16_t* source) {
  uint4 bits;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(source));
  return bits;
}

// Which tile and which inputs a warp's next step has.
struct GemvCursor {
  int64_t tile;
  int64_t input;  // of the lane's first vector

  __device__ __forceinline__ void Advance(int64_t num_inputs, int64_t first_input) {
    input += GemvTraits::kBlockInputs;
    // All warps of a block take the same number of steps, the last ones perhaps beyond the end.
    if (input - first_input >= num_inputs) {
      input = first_input;
      tile += gridDim.x;
    }
  }
};

__device__ __forceinline__ void LoadWeights(const DeviceMatMulParams& params,
                                            const GemvCursor& cursor, GemvStep& step) {
  const int64_t first = cursor.tile * GemvTraits::kTileOutputs + threadIdx.x % 32 / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t output = first + 8 * i;
      const int64_t input = cursor.input + 32 * half;
      const bool is_inside = output < params.num_outputs && input < params.num_inputs;
      step.weights[i][half] = is_inside
                                  ? LoadOnce(params.weights + output * params.num_inputs + input)
                                  : make_uint4(0, 0, 0, 0);
    }
  }
}

__device__ __forceinline__ void LoadX(const DeviceMatMulParams& params, const GemvCursor& cursor,
                                      GemvStep& step) {
  const int64_t row = threadIdx.x % 32 / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t input = cursor.input + 32 * half;
    const bool is_inside = row < params.num_rows && input < params.num_inputs &&
                           cursor.tile * GemvTraits::kTileOutputs < params.num_outputs;
    step.x[half] = is_inside
                       ? *reinterpret_cast<const uint4*>(params.x + row * params.num_inputs + input)
                       : make_uint4(0, 0, 0, 0);
  }
}

__device__ __forceinline__ void MultiplyStep(const GemvStep& step, float (&sums)[4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4& low = step.weights[0][half];
    const uint4& high = step.weights[1][half];
    const uint4& x = step.x[half];
    MultiplyAdd(sums, {low.x, high.x, low.y, high.y}, x.x, x.y);
    MultiplyAdd(sums, {low.z, high.z, low.w, high.w}, x.z, x.w);
  }
}

// Adds up the warps' sums of a tile and writes its outputs.
__device__ __forceinline__ void FinishTile(const DeviceMatMulParams& params, int64_t tile,
                                           const float (&sums)[4],
                                           float (&shared)[GemvTraits::kWarps][8][16]) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int g = static_cast<int>(threadIdx.x % 32 / 4);
  const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < 4; ++i) shared[warp][2 * t + i % 2][g + i / 2 * 8] = sums[i];
  __syncthreads();
  const int64_t row = threadIdx.x / GemvTraits::kTileOutputs;
  const int column = static_cast<int>(threadIdx.x % GemvTraits::kTileOutputs);
  const int64_t output = tile * GemvTraits::kTileOutputs + column;
  if (row < params.num_rows && output < params.num_outputs) {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < GemvTraits::kWarps; ++i) sum += shared[i][row][column];
    if (params.bias != nullptr) {
      sum += __uint_as_float(static_cast<uint32_t>(params.bias[output]) << 16);
    }
    const int64_t index = row * params.num_outputs + output;
    if (params.y_type == DeviceType::kF32) {
      static_cast<float*>(params.y)[index] = sum;
    } else {
      static_cast<uint16_t*>(params.y)[index] = static_cast<uint16_t>(PackBf16(sum, 0.0F));
    }
  }
  __syncthreads();
}

// Grid: at most kBlocksPerMultiprocessor blocks for each multiprocessor, and no more than tiles.
__global__ void __launch_bounds__(GemvTraits::kThreads, GemvTraits::kBlocksPerMultiprocessor)
    GemvRowsKernel(const __grid_constant__ DeviceMatMulParams params) {
  __shared__ float shared[GemvTraits::kWarps][8][16];
  constexpr int kDepth = GemvTraits::kDepth;
  const int64_t first_input = threadIdx.x / 32 * GemvTraits::kStepInputs + threadIdx.x % 4 * 8;
  const int64_t num_tiles =
      (params.num_outputs + GemvTraits::kTileOutputs - 1) / GemvTraits::kTileOutputs;
  const int steps_per_tile = static_cast<int>((params.num_inputs + GemvTraits::kBlockInputs - 1) /
                                              GemvTraits::kBlockInputs);
  // A step belongs to a tile by its number, so every warp counts alike.
  const int64_t rounded_inputs = int64_t{steps_per_tile} * GemvTraits::kBlockInputs;

  LetLaterKernelsStart();
  GemvStep steps[kDepth];
  GemvCursor ahead{.tile = blockIdx.x, .input = first_input};
  GemvCursor ahead_x = ahead;
#pragma unroll
  for (int i = 0; i < kDepth; ++i) {
    LoadWeights(params, ahead, steps[i]);
    ahead.Advance(rounded_inputs, first_input);
  }
  WaitForEarlierKernels();
#pragma unroll
  for (int i = 0; i < kDepth; ++i) {
    LoadX(params, ahead_x, steps[i]);
    ahead_x.Advance(rounded_inputs, first_input);
  }

  float sums[4] = {};
  int steps_left = steps_per_tile;
  int64_t tile = blockIdx.x;
  while (tile < num_tiles) {
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      MultiplyStep(steps[i], sums);
      LoadWeights(params, ahead, steps[i]);
      LoadX(params, ahead, steps[i]);
      ahead.Advance(rounded_inputs, first_input);
      if (--steps_left > 0) continue;
      if (tile < num_tiles) FinishTile(params, tile, sums, shared);
      tile += gridDim.x;
      steps_left = steps_per_tile;
#pragma unroll
      for (float& sum : sums) sum = 0.0F;
    }
  }
}

Result<int32_t> NumMultiprocessors() {
  int device = 0;
  int count = 0;
  INTARSIA_RETURN_IF_ERROR(CudaStatus(cudaGetDevice(&device), "gemv rows: device"));
  INTARSIA_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "gemv rows: device"));
  return count;
}

}  // namespace

Status GemvRowsCuda(const DeviceMatMulParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckDeviceMatMul(params));
  if (params.num_rows == 0) return Status::Ok();
  if (params.num_rows > kDeviceGemvRowsMax) {
    return Status(StatusCode::kUnsupported,
                  "gemv rows: too many rows: rows=" + std::to_string(params.num_rows) +
                      " max=" + std::to_string(kDeviceGemvRowsMax));
  }
  INTARSIA_ASSIGN_OR_RETURN(const int32_t num_multiprocessors, NumMultiprocessors());
  const int64_t num_tiles =
      (params.num_outputs + GemvTraits::kTileOutputs - 1) / GemvTraits::kTileOutputs;
  const auto num_blocks = static_cast<unsigned>(std::min<int64_t>(
      num_tiles, int64_t{num_multiprocessors} * GemvTraits::kBlocksPerMultiprocessor));
  return LaunchBehind("gemv rows", GemvRowsKernel, dim3(num_blocks), GemvTraits::kThreads, stream,
                      params);
}

}  // namespace intarsia::kernels
