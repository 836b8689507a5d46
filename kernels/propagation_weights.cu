// Bound: latency. m^3 / 3 multiply-adds a chunk for the inverse factor, twice m^2 n for the
// weights; at 15 % of a chunk of 520 tokens that is 60 MFLOP for a whole prompt of 5,200.
// Design: both halves of a solve go through the inverse of the Cholesky factor, which is made in
// place by one block a chunk: a step of the factorisation and a step of the inversion are the same
// rank-one update of the lower triangle. Two triangular products by many blocks follow. That is one
// pass over a chunk's matrix more than a solve needs, and all tokens are weighed in parallel.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda_status.h"
#include "kernels/propagation_weights.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

struct FactorTraits {
  static constexpr int kThreads = 512;
  static constexpr int kWarps = kThreads / 32;
};

template <int kTokens_>
struct WeighTraits {
  static constexpr int kThreads = 256;
  static constexpr int kTokens = kTokens_;  // at a time
  static constexpr int kLanes = kThreads / kTokens;
  static_assert(kPropagationTileTokens % kTokens == 0, "a tile is a whole number of steps");
};

constexpr int kSharedBytesMax = 224 * 1024;

// What one half of a request works in.
struct HalfView {
  ShiftKernel kernel;
  uint16_t* weights;
  float* u;
  float* factors;
  float* ones;  // R^-1 1 by row
  float* sums;  // |R^-1 1|^2 by chunk
};

__device__ inline HalfView ViewOf(const PropagationWeightsParams& params, bool is_key) {
  const int64_t half = is_key ? 0 : 1;
  float* const factors = params.workspace;
  float* const ones = factors + 2 * params.num_factors;
  float* const sums = ones + 2 * params.num_rows;
  return {.kernel = is_key ? params.key : params.value,
          .weights = is_key ? params.key_weights : params.value_weights,
          .u = is_key ? params.key_u : params.value_u,
          .factors = factors + half * params.num_factors,
          .ones = ones + half * params.num_rows,
          .sums = sums + half * params.num_chunks};
}

__device__ inline float Entry(const ShiftKernel& kernel, int distance) {
  const auto d = static_cast<float>(distance < 0 ? -distance : distance);
  return kernel.a * expf(-d / kernel.t1) + kernel.b * expf(-d / kernel.t2) + kernel.c;
}

__device__ inline float SumOverWarp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// Turns the lower triangle of a symmetric matrix into that of the inverse of its Cholesky factor.
// Step k scales row k, which then is that of the inverse, and takes it off the rows below: their
// columns before k belong to the inverse already, those behind k to the matrix that is left.
// `column` and `row` are [size] in shared memory.
__device__ void InvertFactor(float* a, int size, int stride, float* column, float* row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int k = 0; k < size; ++k) {
    const float inverse = rsqrtf(a[int64_t{k} * stride + k]);
    for (int i = static_cast<int>(threadIdx.x); i < size; i += FactorTraits::kThreads) {
      const float scaled =
          (i <= k ? a[int64_t{k} * stride + i] : a[int64_t{i} * stride + k]) * inverse;
      column[i] = scaled;
      row[i] = i == k ? inverse : scaled;
    }
    __syncthreads();
    for (int i = k + warp; i < size; i += FactorTraits::kWarps) {
      float* const target = a + int64_t{i} * stride;
      const float factor = column[i];
      for (int j = lane; j <= i; j += 32) {
        if (i == k) {
          target[j] = row[j];
        } else {
          target[j] = fmaf(-factor, row[j], j == k ? 0.0f : target[j]);
        }
      }
    }
    __syncthreads();
  }
}

// Grid: (num_chunks, K and V). Block: kThreads. Dynamic shared memory: two vectors of num_rows_max,
// then `matrix_bytes` for matrices that fit.
__global__ void __launch_bounds__(FactorTraits::kThreads)
    FactorKernel(const __grid_constant__ PropagationWeightsParams params, int64_t matrix_bytes) {
  extern __shared__ float shared[];
  const PropagationChunk chunk = params.chunks[blockIdx.x];
  const HalfView half = ViewOf(params, blockIdx.y == 0);
  const int m = chunk.num_rows;
  const int32_t* const rows = params.rows + chunk.first_row;
  float* const column = shared;
  float* const row = column + params.num_rows_max;
  float* const target = half.factors + chunk.first_factor;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int odd = m | 1;
  const bool is_shared = int64_t{m} * odd * static_cast<int64_t>(sizeof(float)) <= matrix_bytes;
  float* const a = is_shared ? row + params.num_rows_max : target;
  const int stride = is_shared ? odd : m;
  for (int i = warp; i < m; i += FactorTraits::kWarps) {
    for (int j = lane; j <= i; j += 32) {
      a[int64_t{i} * stride + j] =
          Entry(half.kernel, rows[i] - rows[j]) + (i == j ? half.kernel.noise : 0.0f);
    }
  }
  __syncthreads();
  InvertFactor(a, m, stride, column, row);
  // `column` becomes R^-1 1.
  for (int i = warp; i < m; i += FactorTraits::kWarps) {
    float sum = 0.0f;
    for (int j = lane; j <= i; j += 32) {
      const float value = a[int64_t{i} * stride + j];
      if (is_shared) target[int64_t{i} * m + j] = value;
      sum += value;
    }
    sum = SumOverWarp(sum);
    if (lane == 0) column[i] = half.ones[chunk.first_row + i] = sum;
  }
  __syncthreads();
  for (int j = static_cast<int>(threadIdx.x); j < m; j += FactorTraits::kThreads) {
    float sum = 0.0f;
    for (int i = j; i < m; ++i) sum = fmaf(a[int64_t{i} * stride + j], column[i], sum);
    half.u[chunk.first_row + j] = sum;
  }
  if (warp == 0) {
    float sum = 0.0f;
    for (int i = lane; i < m; i += 32) sum = fmaf(column[i], column[i], sum);
    sum = SumOverWarp(sum);
    if (lane == 0) half.sums[blockIdx.x] = sum;
  }
}

// |R^-1 1|^2 of the chunks that a token sees beside its own prefix.
__device__ inline float SumOfChunks(const PropagationWeightsParams& params, const HalfView& half,
                                    int chunk) {
  const int end = params.order == PropagationOrder::kCausal ? chunk : params.num_chunks;
  float sum = 0.0f;
  for (int i = 0; i < end; ++i) sum += half.sums[i];
  return sum;
}

// The last weight of a token: gamma (1 - y . R^-1 1). `y` is that of the token, `kTokens` apart.
template <typename Traits>
__device__ float LastWeight(const PropagationWeightsParams& params, const HalfView& half,
                            const PropagationChunk& chunk, float sum, int token, const float* y) {
  const int32_t* const rows = params.rows + chunk.first_row;
  const float* const ones = half.ones + chunk.first_row;
  const bool is_causal = params.order == PropagationOrder::kCausal;
  float y_dot_one = 0.0f;
  for (int s = 0; s < chunk.num_rows; ++s) {
    if (is_causal && rows[s] > token) break;
    y_dot_one = fmaf(y[s * Traits::kTokens], ones[s], y_dot_one);
    if (is_causal) sum = fmaf(ones[s], ones[s], sum);
  }
  return half.kernel.c0 / (1.0f + half.kernel.c0 * sum) * (1.0f - y_dot_one);
}

// Grid: (num_tiles, K and V). Block: kThreads; a thread takes every kLanes-th row of one token.
// Dynamic shared memory: two arrays [num_rows_max, kTokens] and one of kTokens.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    WeighKernel(const __grid_constant__ PropagationWeightsParams params) {
  extern __shared__ float shared[];
  const PropagationTile tile = params.tiles[blockIdx.x];
  const PropagationChunk chunk = params.chunks[tile.chunk];
  const HalfView half = ViewOf(params, blockIdx.y == 0);
  const int m = chunk.num_rows;
  const int32_t* const rows = params.rows + chunk.first_row;
  const float* const factor = half.factors + chunk.first_factor;
  const int t = static_cast<int>(threadIdx.x) % Traits::kTokens;
  const int lane = static_cast<int>(threadIdx.x) / Traits::kTokens;
  float* const k = shared + t;                                                   // then the weights
  float* const y = shared + int64_t{params.num_rows_max} * Traits::kTokens + t;  // then z
  float* const last = shared + int64_t{2} * params.num_rows_max * Traits::kTokens;
  const bool is_causal = params.order == PropagationOrder::kCausal;
  const float sum_of_chunks = SumOfChunks(params, half, tile.chunk);
  const int end = min(tile.first + kPropagationTileTokens, chunk.num_tokens);
  for (int first = tile.first; first < end; first += Traits::kTokens) {
    const int token = first + t;
    for (int s = lane; s < m; s += Traits::kLanes) {
      k[s * Traits::kTokens] = Entry(half.kernel, rows[s] - token);
    }
    __syncthreads();
    for (int s = lane; s < m; s += Traits::kLanes) {
      const float* const row = factor + int64_t{s} * m;
      float sum = 0.0f;
#pragma unroll 8
      for (int j = 0; j <= s; ++j) sum = fmaf(row[j], k[j * Traits::kTokens], sum);
      y[s * Traits::kTokens] = sum;
    }
    __syncthreads();
    if (lane == 0) last[t] = LastWeight<Traits>(params, half, chunk, sum_of_chunks, token, y);
    __syncthreads();
    if (is_causal) {
      for (int s = lane; s < m; s += Traits::kLanes) {
        float& value = y[s * Traits::kTokens];
        value = rows[s] > token ? 0.0f : fmaf(last[t], half.ones[chunk.first_row + s], value);
      }
      __syncthreads();
    }
    for (int j = lane; j < m; j += Traits::kLanes) {
      float sum = 0.0f;
#pragma unroll 8
      for (int s = j; s < m; ++s) {
        sum = fmaf(factor[int64_t{s} * m + j], y[s * Traits::kTokens], sum);
      }
      k[j * Traits::kTokens] = sum;
    }
    __syncthreads();
    uint16_t* const weights = half.weights + chunk.first_weight;
    const int num_tokens = min(Traits::kTokens, end - first);
    for (int i = static_cast<int>(threadIdx.x); i < num_tokens * chunk.weights_stride;
         i += Traits::kThreads) {
      const int at = i / chunk.weights_stride;
      const int s = i % chunk.weights_stride;
      const float value = s < m ? shared[s * Traits::kTokens + at] : s == m ? last[at] : 0.0f;
      weights[int64_t{first + at} * chunk.weights_stride + s] =
          static_cast<uint16_t>(PackBf16(value, 0.0f));
    }
    __syncthreads();
  }
}

template <typename Traits>
int64_t WeighBytes(int64_t num_rows_max) {
  return (2 * num_rows_max + 1) * Traits::kTokens * static_cast<int64_t>(sizeof(float));
}

template <typename Traits>
Status LaunchWeigh(const PropagationWeightsParams& params, Stream stream) {
  const int64_t num_bytes = WeighBytes<Traits>(params.num_rows_max);
  INTARSIA_RETURN_IF_ERROR(CudaStatus(
      cudaFuncSetAttribute(WeighKernel<Traits>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(num_bytes)),
      "propagation_weights: shared memory"));
  const dim3 grid(static_cast<unsigned>(params.num_tiles), 2);
  WeighKernel<Traits><<<grid, Traits::kThreads, static_cast<size_t>(num_bytes), stream>>>(params);
  return CudaStatus(cudaGetLastError(), "propagation_weights launch");
}

// Bytes of shared memory for a factor of `num_rows_max` rows, or what is left for smaller ones.
int64_t MatrixBytes(int64_t num_rows_max, int64_t shared_bytes_max) {
  const int64_t vectors = 2 * num_rows_max * static_cast<int64_t>(sizeof(float));
  const int64_t wanted = num_rows_max * (num_rows_max | 1) * static_cast<int64_t>(sizeof(float));
  return wanted < shared_bytes_max - vectors ? wanted : shared_bytes_max - vectors;
}

}  // namespace

Status PropagationWeightsCuda(const PropagationWeightsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckPropagationWeights(params));
  if (params.num_chunks == 0) return Status::Ok();
  int device = 0;
  int shared_bytes = 0;
  INTARSIA_RETURN_IF_ERROR(CudaStatus(cudaGetDevice(&device), "cudaGetDevice"));
  INTARSIA_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
      "cudaDeviceGetAttribute"));
  const int64_t shared_bytes_max = shared_bytes < kSharedBytesMax ? shared_bytes : kSharedBytesMax;
  if (WeighBytes<WeighTraits<1>>(params.num_rows_max) > shared_bytes_max) {
    return {StatusCode::kUnsupported, "propagation_weights: too many rows in a chunk: rows=" +
                                          std::to_string(params.num_rows_max)};
  }
  const int64_t matrix_bytes = MatrixBytes(params.num_rows_max, shared_bytes_max);
  const int64_t factor_bytes =
      2 * int64_t{params.num_rows_max} * static_cast<int64_t>(sizeof(float)) + matrix_bytes;
  INTARSIA_RETURN_IF_ERROR(
      CudaStatus(cudaFuncSetAttribute(FactorKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(factor_bytes)),
                 "propagation_weights: shared memory"));
  const dim3 grid(static_cast<unsigned>(params.num_chunks), 2);
  FactorKernel<<<grid, FactorTraits::kThreads, static_cast<size_t>(factor_bytes), stream>>>(
      params, matrix_bytes);
  INTARSIA_RETURN_IF_ERROR(CudaStatus(cudaGetLastError(), "propagation_weights launch"));
  if (WeighBytes<WeighTraits<32>>(params.num_rows_max) <= shared_bytes_max) {
    return LaunchWeigh<WeighTraits<32>>(params, stream);
  }
  if (WeighBytes<WeighTraits<8>>(params.num_rows_max) <= shared_bytes_max) {
    return LaunchWeigh<WeighTraits<8>>(params, stream);
  }
  return LaunchWeigh<WeighTraits<1>>(params, stream);
}

}  // namespace intarsia::kernels
