// Bound: memory, twice the bytes of the codes.
// Design: a warp a tile; a lane writes a piece of 16 bytes at a time, so writes are whole, and
// reads are of the 64 bytes that eight codes have side by side.
#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/binary_rows.h"
#include "kernels/kernel_launch.cuh"

namespace intarsia::kernels {
namespace {

struct BinaryRowsTraits {
  static constexpr int kThreads = 256;
  static constexpr int kBlocksMax = 132 * 8;
};

__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int step = 16; step >= 1; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}

// Grid: any number of blocks. Block: kThreads. A warp takes every so many-th tile.
__global__ void __launch_bounds__(BinaryRowsTraits::kThreads)
    BinaryRowsKernel(const __grid_constant__ BinaryRowsParams params) {
  const float kInfinity = __int_as_float(0x7f800000);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t num_warps = int64_t{gridDim.x} * (BinaryRowsTraits::kThreads / 32);
  const int64_t num_tiles = (params.num_rows + kBinaryTileRows - 1) / kBinaryTileRows;
  const int64_t plane_pieces = (params.num_words + 1) / 2;
  const int64_t row_pieces = params.num_planes * plane_pieces;
  const int64_t tile_words = params.num_words * kBinaryTileRows;
  for (int64_t tile = int64_t{blockIdx.x} * (BinaryRowsTraits::kThreads / 32) + threadIdx.x / 32;
       tile < num_tiles; tile += num_warps) {
    const int64_t row = tile * kBinaryTileRows + lane;
    const bool is_row = row < params.num_rows;
    // fmaxf gives the other operand for one that is not a number.
    const float scale_min = -WarpMax(is_row ? fmaxf(-params.scales[row], -kInfinity) : -kInfinity);
    const float scale_max = WarpMax(is_row ? fmaxf(params.scales[row], -kInfinity) : -kInfinity);
    const float offset_max = WarpMax(is_row ? fmaxf(params.offsets[row], -kInfinity) : -kInfinity);
    const float error_max = WarpMax(is_row ? fmaxf(params.errors[row], -kInfinity) : -kInfinity);
    if (lane == 0) {
      *reinterpret_cast<float4*>(params.bounds + tile) =
          make_float4(scale_min, scale_max, offset_max, error_max);
    }
    uint4* const target =
        reinterpret_cast<uint4*>(params.codes) + tile * kBinaryTileRows * row_pieces;
    for (int64_t i = lane; i < kBinaryTileRows * row_pieces; i += 32) {
      const int64_t code = i / row_pieces;
      const int64_t plane = i % row_pieces / plane_pieces;
      const int64_t word = i % plane_pieces * kBinaryPieceWords;
      const uint64_t* const source =
          params.planes[plane] + tile * tile_words +
          code / kBinaryBlockCodes * kBinaryBlockCodes * params.num_words +
          code % kBinaryBlockCodes;
      uint64_t words[2] = {0, 0};
      if (tile * kBinaryTileRows + code < params.num_rows) {
        words[0] = source[word * kBinaryBlockCodes];
        if (word + 1 < params.num_words) words[1] = source[(word + 1) * kBinaryBlockCodes];
      }
      target[i] =
          make_uint4(static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[0] >> 32),
                     static_cast<uint32_t>(words[1]), static_cast<uint32_t>(words[1] >> 32));
    }
  }
}

}  // namespace

Status BinaryRowsCuda(const BinaryRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryRowsParams(params));
  if (params.num_rows == 0) return Status::Ok();
  constexpr int64_t kWarps = BinaryRowsTraits::kThreads / 32;
  const int64_t num_blocks = (params.rows().num_tiles() + kWarps - 1) / kWarps;
  return LaunchKernel("binary_rows launch", BinaryRowsKernel,
                      {.num_blocks = static_cast<unsigned>(
                           std::min<int64_t>(num_blocks, BinaryRowsTraits::kBlocksMax)),
                       .num_threads = BinaryRowsTraits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace intarsia::kernels
