// Bound: memory. Reads and writes each element of a row once: 4 bytes an element.
// Design: a block a row. The row's cosines and sines are made once, in shared memory, and used by
// all heads; a thread then turns 16 elements, as two vectors whose elements form 8 pairs.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/place_rows.h"

namespace intarsia::kernels {
namespace {

struct PlaceRowsTraits {
  static constexpr int kThreads = 256;
  static constexpr int kPairsMax = 128;
  static constexpr int kUnitElements = 2 * kVectorElements;
};

__device__ void MakeRotations(const RopeDigits& rope, int64_t position, float2* rotations) {
  const auto* const low =
      reinterpret_cast<const float2*>(rope.low + position % kRopeDigitValues * rope.rotary_dim);
  const auto* const high =
      reinterpret_cast<const float2*>(rope.high + position / kRopeDigitValues * rope.rotary_dim);
  for (int pair = static_cast<int>(threadIdx.x); pair < rope.rotary_dim / 2;
       pair += PlaceRowsTraits::kThreads) {
    const float2 a = low[pair];
    const float2 b = high[pair];
    rotations[pair] = make_float2(a.x * b.x - a.y * b.y, a.y * b.x + a.x * b.y);
  }
}

__device__ void Turn(float2 rotation, float* even, float* odd) {
  const float x = *even;
  *even = x * rotation.x - *odd * rotation.y;
  *odd = *odd * rotation.x + x * rotation.y;
}

// Copies unit `unit` of a head, rotated if it lies within rotary_dim.
__device__ void MoveUnit(const RopeDigits& rope, const float2* rotations, int unit,
                         const uint16_t* x, uint16_t* y) {
  constexpr int kUnit = PlaceRowsTraits::kUnitElements;
  if (unit * kUnit >= rope.rotary_dim) {
    StoreBf16Vector(LoadBf16Vector(x + unit * kUnit), y + unit * kUnit);
    StoreBf16Vector(LoadBf16Vector(x + unit * kUnit + kVectorElements),
                    y + unit * kUnit + kVectorElements);
    return;
  }
  const bool is_interleaved = rope.pairing == RopePairing::kInterleaved;
  const int first = is_interleaved ? unit * kUnit : unit * kVectorElements;
  const int second = is_interleaved ? first + kVectorElements : first + rope.rotary_dim / 2;
  Floats8 a = LoadBf16Vector(x + first);
  Floats8 b = LoadBf16Vector(x + second);
  const float2* const unit_rotations = rotations + unit * kVectorElements;
  if (is_interleaved) {
#pragma unroll
    for (int i = 0; i < kVectorElements / 2; ++i) {
      Turn(unit_rotations[i], &a.at[2 * i], &a.at[2 * i + 1]);
      Turn(unit_rotations[i + kVectorElements / 2], &b.at[2 * i], &b.at[2 * i + 1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) Turn(unit_rotations[i], &a.at[i], &b.at[i]);
  }
  StoreBf16Vector(a, y + first);
  StoreBf16Vector(b, y + second);
}

// Grid: num_rows. Block: kThreads, each taking every kThreads-th unit of the row.
__global__ void __launch_bounds__(PlaceRowsTraits::kThreads)
    PlaceRowsKernel(const __grid_constant__ PlaceRowsParams params) {
  __shared__ float2 rotations[PlaceRowsTraits::kPairsMax];
  WaitForEarlierKernels();
  // Not before: what starts now may read the rows too (kernels/measure_shift.h).
  LetLaterKernelsStart();
  const PagedKvLayer& layer = params.layer;
  const int64_t row = blockIdx.x;
  const int64_t position = params.positions[row];
  if (position < 0 || position >= layer.num_tokens ||
      position / kRopeDigitValues >= params.rope.num_high) {
    return;
  }
  MakeRotations(params.rope, position, rotations);
  const int64_t table = row * params.page_table_stride;
  const int64_t page = layer.page_table[table + position / kPageTokens];
  __syncthreads();

  const int num_heads = params.num_heads + 2 * layer.num_kv_heads;
  const int units_per_head = layer.head_dim / PlaceRowsTraits::kUnitElements;
  const uint16_t* const x = params.qkv + row * num_heads * layer.head_dim;
  for (int index = static_cast<int>(threadIdx.x); index < num_heads * units_per_head;
       index += PlaceRowsTraits::kThreads) {
    const int head = index / units_per_head;
    const int unit = index % units_per_head;
    const uint16_t* const source = x + int64_t{head} * layer.head_dim;
    if (head < params.num_heads) {
      uint16_t* const target = params.q + (row * params.num_heads + head) * layer.head_dim;
      MoveUnit(params.rope, rotations, unit, source, target);
      continue;
    }
    const int key_head = head - params.num_heads;
    const bool is_key = key_head < layer.num_kv_heads;
    const int kv_head = is_key ? key_head : key_head - layer.num_kv_heads;
    const int64_t offset = PagedKvOffset(layer, page, kv_head, position % kPageTokens);
    if (is_key) {
      MoveUnit(params.rope, rotations, unit, source, layer.k_pages + offset);
    } else {
      const auto* const from = reinterpret_cast<const uint4*>(source) + 2 * unit;
      auto* const to = reinterpret_cast<uint4*>(layer.v_pages + offset) + 2 * unit;
      to[0] = from[0];
      to[1] = from[1];
    }
  }
}

}  // namespace

Status PlaceRowsCuda(const PlaceRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckPlaceRows(params));
  if (params.num_rows == 0) return Status::Ok();
  return LaunchBehind("place rows launch", PlaceRowsKernel,
                      {.num_blocks = static_cast<unsigned>(params.num_rows),
                       .num_threads = PlaceRowsTraits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace intarsia::kernels
