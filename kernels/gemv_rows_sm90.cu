// Bound: memory. 2 bytes a weight, read once.
// Design: a block for each multiprocessor stays and takes tiles of 16 outputs. One warp copies
// stages of 16 x 1,024 weights into a ring that fills shared memory, a row by one bulk copy: copies
// of 1 KB reach two thirds of the bandwidth, of 2 KB 95 %. Eight
// warps share a stage's inputs and multiply by mma.m16n8k16 with outputs as rows and x as columns,
// so that up to 8 rows cost what one does. The order of k within a product is free as long as both
// sides agree, so a lane's 16 bytes are its parts of two products. The ring is filled over the ends
// of tiles, and begins before the kernels in front have ended: nobody writes weights.
#include <algorithm>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "kernels/device_shape.h"
#include "kernels/gemv_rows.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {
namespace {

struct GemvTraits {
  static constexpr int kConsumers = 8;  // warps
  static constexpr int kThreads = 32 * (kConsumers + 1);
  static constexpr int kTileOutputs = 16;
  static constexpr int kPieces = 4;  // of 16 bytes, that a lane has of a row of a stage
  static constexpr int kStageInputs = 32 * kPieces * kConsumers;
  // Rows of a stage are 16 banks apart, so that the eight lanes of a phase meet in none.
  static constexpr int kRowBytes = kStageInputs * 2 + 64;
  static constexpr int kStageBytes = kTileOutputs * kRowBytes;
  static constexpr int kStages = 6;
  static constexpr int kSumFloats = kConsumers * 8 * kTileOutputs;
  static constexpr int kSumsOffset = kStages * kStageBytes;  // two of them, in turn
  static constexpr int kBarrierOffset = kSumsOffset + 2 * kSumFloats * 4;
  static constexpr int kSharedBytes = kBarrierOffset + 2 * kStages * 8;
  static_assert(kSharedBytes <= 227 * 1024, "what a block of sm_90 may have");
};

constexpr int kConsumerBarrier = 1;  // of the block by number; 0 is __syncthreads

// A place in the ring, and which of its barriers' phases is at hand.
struct StageCursor {
  int index = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void Advance() {
    if (++index == GemvTraits::kStages) {
      index = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ uint32_t FullBarrier(uint32_t shared, int stage) {
  return shared + GemvTraits::kBarrierOffset + stage * 8;
}
__device__ __forceinline__ uint32_t EmptyBarrier(uint32_t shared, int stage) {
  return FullBarrier(shared, GemvTraits::kStages + stage);
}

// The copying warp: lane i has row i of each stage of each tile.
__device__ __forceinline__ void CopyWeights(const DeviceMatMulParams& params, uint32_t shared,
                                            int num_tiles) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  StageCursor at;
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles;
       tile += static_cast<int>(gridDim.x)) {
    const int64_t first = int64_t{tile} * GemvTraits::kTileOutputs;
    const auto num_outputs =
        static_cast<int>(min(int64_t{GemvTraits::kTileOutputs}, params.num_outputs - first));
    const uint16_t* const row = params.weights + (first + lane) * params.num_inputs;
    for (int64_t input = 0; input < params.num_inputs; input += GemvTraits::kStageInputs) {
      const auto num_bytes = static_cast<uint32_t>(
          2 * min(int64_t{GemvTraits::kStageInputs}, params.num_inputs - input));
      WaitAtBarrier(EmptyBarrier(shared, at.index), at.parity ^ 1);
      const uint32_t full = FullBarrier(shared, at.index);
      if (lane == 0) ArriveAndExpectBytes(full, num_bytes * static_cast<uint32_t>(num_outputs));
      __syncwarp();
      if (lane < num_outputs) {
        CopyBulk(shared + at.index * GemvTraits::kStageBytes + lane * GemvTraits::kRowBytes,
                 row + input, num_bytes, full);
      }
      at.Advance();
    }
  }
}

// A lane's part of x in a stage: of row g, the inputs [8 t, 8 t + 8) of every 32.
struct XPart {
  uint4 pieces[GemvTraits::kPieces];
};

__device__ __forceinline__ XPart LoadX(const DeviceMatMulParams& params, int64_t first_input) {
  const int64_t row = threadIdx.x % 32 / 4;
  XPart part;
#pragma unroll
  for (int i = 0; i < GemvTraits::kPieces; ++i) {
    const int64_t input = first_input + 32 * i;
    part.pieces[i] =
        row < params.num_rows && input < params.num_inputs
            ? *reinterpret_cast<const uint4*>(params.x + row * params.num_inputs + input)
            : make_uint4(0, 0, 0, 0);
  }
  return part;
}

// Adds up the warps' sums of a tile and writes its outputs.
__device__ __forceinline__ void FinishTile(const DeviceMatMulParams& params, int64_t tile,
                                           const float (&sums)[4], float* shared_sums) {
  constexpr int kOutputs = GemvTraits::kTileOutputs;
  const int thread = static_cast<int>(threadIdx.x) - 32;
  const int g = thread % 32 / 4;
  const int t = thread % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    shared_sums[(thread / 32 * 8 + 2 * t + i % 2) * kOutputs + g + i / 2 * 8] = sums[i];
  }
  SyncAt(kConsumerBarrier, 32 * GemvTraits::kConsumers);
  const int row = thread / kOutputs;
  const int64_t output = tile * kOutputs + thread % kOutputs;
  if (row >= params.num_rows || output >= params.num_outputs) return;
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < GemvTraits::kConsumers; ++i) {
    sum += shared_sums[(i * 8 + row) * kOutputs + thread % kOutputs];
  }
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

__device__ __forceinline__ void MultiplyTiles(const DeviceMatMulParams& params,
                                              unsigned char* shared, int num_tiles) {
  const int warp = static_cast<int>(threadIdx.x / 32) - 1;
  const int g = static_cast<int>(threadIdx.x % 32 / 4);
  const int first_input = warp * 32 * GemvTraits::kPieces + static_cast<int>(threadIdx.x % 4) * 8;
  const uint32_t base = SharedAddress(shared);
  StageCursor at;
  int turn = 0;
  XPart next = LoadX(params, first_input);
  for (int tile = static_cast<int>(blockIdx.x); tile < num_tiles;
       tile += static_cast<int>(gridDim.x), turn ^= 1) {
    float sums[4] = {};
    const int64_t first_output = int64_t{tile} * GemvTraits::kTileOutputs;
    const bool has_row[2] = {first_output + g < params.num_outputs,
                             first_output + g + 8 < params.num_outputs};
    for (int64_t begin = 0; begin < params.num_inputs; begin += GemvTraits::kStageInputs) {
      const XPart x = next;
      const int64_t following = begin + GemvTraits::kStageInputs;
      next = LoadX(params, (following < params.num_inputs ? following : 0) + first_input);
      WaitAtBarrier(FullBarrier(base, at.index), at.parity);
      const unsigned char* const stage = shared + at.index * GemvTraits::kStageBytes;
#pragma unroll
      for (int piece = 0; piece < GemvTraits::kPieces; ++piece) {
        const int input = first_input + 32 * piece;
        // Beyond the end lies what an earlier stage left, and 0 * NaN is NaN.
        const bool is_inside = begin + input < params.num_inputs;
        uint4 weights[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          weights[i] = is_inside && has_row[i]
                           ? *reinterpret_cast<const uint4*>(
                                 stage + (g + 8 * i) * GemvTraits::kRowBytes + input * 2)
                           : make_uint4(0, 0, 0, 0);
        }
        MultiplyAdd(sums, {weights[0].x, weights[1].x, weights[0].y, weights[1].y},
                    x.pieces[piece].x, x.pieces[piece].y);
        MultiplyAdd(sums, {weights[0].z, weights[1].z, weights[0].w, weights[1].w},
                    x.pieces[piece].z, x.pieces[piece].w);
      }
      __syncwarp();
      if (threadIdx.x % 32 == 0) ArriveAtBarrier(EmptyBarrier(base, at.index));
      at.Advance();
    }
    FinishTile(
        params, tile, sums,
        reinterpret_cast<float*>(shared + GemvTraits::kSumsOffset) + turn * GemvTraits::kSumFloats);
  }
}

// Grid: at most one block for each multiprocessor. Block: a warp that copies, then kConsumers.
__global__ void __launch_bounds__(GemvTraits::kThreads, 1)
    GemvRowsKernel(const __grid_constant__ DeviceMatMulParams params) {
  unsigned char* const shared = DynamicShared();
  const uint32_t base = SharedAddress(shared);
  const auto num_tiles = static_cast<int>((params.num_outputs + GemvTraits::kTileOutputs - 1) /
                                          GemvTraits::kTileOutputs);
  LetLaterKernelsStart();
  if (threadIdx.x == 0) {
    for (int i = 0; i < GemvTraits::kStages; ++i) {
      InitBarrier(FullBarrier(base, i), 1);
      InitBarrier(EmptyBarrier(base, i), GemvTraits::kConsumers);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    CopyWeights(params, base, num_tiles);
  } else {
    WaitForEarlierKernels();
    MultiplyTiles(params, shared, num_tiles);
  }
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
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("gemv rows: device"));
  const int64_t num_tiles =
      (params.num_outputs + GemvTraits::kTileOutputs - 1) / GemvTraits::kTileOutputs;
  const LaunchShape shape{
      .num_blocks = static_cast<unsigned>(std::min<int64_t>(num_tiles, device.num_multiprocessors)),
      .num_threads = GemvTraits::kThreads,
      .shared_bytes = GemvTraits::kSharedBytes,
      .stream = stream};
  return LaunchBehind("gemv rows", GemvRowsKernel, shape, params);
}

}  // namespace intarsia::kernels
