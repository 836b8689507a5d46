// Bound: latency. Reads the scores five times; 32,768 of them lie in the second-level cache.
// Design: one block finds the score of the last row by four rounds of a radix search, a byte of the
// key each, and then compacts the candidates in order.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda_status.h"
#include "kernels/radix_select.cuh"
#include "kernels/select_rows.h"

namespace intarsia::kernels {
namespace {

struct SelectRowsTraits {
  static constexpr int kThreads = 1024;
  static constexpr int kWarps = kThreads / 32;
  static_assert(kWarps == 32, "the sums of all warps are scanned by one");
};

__device__ inline bool IsTaken(const SelectRowsParams& params, int i) {
  return params.is_taken != nullptr && params.is_taken[i] != 0;
}

// The number of set flags before this thread and, in `total`, of the block's. All threads call it.
__device__ int CountBefore(bool flag, int* warp_sums, int* total) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const uint32_t ballot = __ballot_sync(0xffffffffu, flag);
  if (lane == 0) warp_sums[warp] = __popc(ballot);
  __syncthreads();
  const int own = warp_sums[lane];
  int sum = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  *total = __shfl_sync(0xffffffffu, sum, 31);
  const int before_warp = __shfl_sync(0xffffffffu, sum - own, warp);
  __syncthreads();  // warp_sums may be written again
  return before_warp + __popc(ballot & ((1u << lane) - 1u));
}

// Grid: 1. Block: kThreads.
__global__ void __launch_bounds__(SelectRowsTraits::kThreads)
    SelectRowsKernel(const __grid_constant__ SelectRowsParams params) {
  using Traits = SelectRowsTraits;
  __shared__ int bins[kRadixBins];
  __shared__ int warp_sums[Traits::kWarps];
  __shared__ int bin;
  __shared__ int wanted;  // keys equal to the threshold that are taken, in the end
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) wanted = params.count;
  uint32_t threshold = 0;
  for (int shift = 24; shift >= 0 && params.count > 0; shift -= 8) {
    if (thread < kRadixBins) bins[thread] = 0;
    __syncthreads();
    for (int i = thread; i < params.num_candidates; i += Traits::kThreads) {
      if (IsTaken(params, i)) continue;
      const uint32_t key = KeyOf(params.scores[params.candidates[i]]);
      // Shifting by 32 is undefined, so the first round compares nothing.
      if (shift == 24 || key >> (shift + 8) == threshold >> (shift + 8)) {
        atomicAdd(&bins[key >> shift & 0xffu], 1);
      }
    }
    __syncthreads();
    if (thread < 32) FindBin(bins, &bin, &wanted);
    __syncthreads();
    threshold |= static_cast<uint32_t>(bin) << shift;
  }
  __syncthreads();
  const int num_ties = wanted;
  int ties_before = 0;
  int rows_before = 0;
  for (int begin = 0; begin < params.num_candidates; begin += Traits::kThreads) {
    const int i = begin + thread;
    const bool is_inside = i < params.num_candidates;
    const int32_t position = is_inside ? params.candidates[i] : 0;
    const bool is_taken = is_inside && IsTaken(params, i);
    const bool is_ranked = is_inside && !is_taken && params.count > 0;
    const uint32_t key = is_ranked ? KeyOf(params.scores[position]) : 0;
    const bool is_tie = is_ranked && key == threshold;
    int num = 0;
    const int tie = ties_before + CountBefore(is_tie, warp_sums, &num);
    ties_before += num;
    const bool is_row = is_taken || (is_ranked && key > threshold) || (is_tie && tie < num_ties);
    const int row = rows_before + CountBefore(is_row, warp_sums, &num);
    rows_before += num;
    if (is_row) params.rows[row] = position;
  }
}

}  // namespace

Status SelectRowsCuda(const SelectRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckSelectRows(params));
  if (params.num_candidates == 0) return Status::Ok();
  SelectRowsKernel<<<1, SelectRowsTraits::kThreads, 0, stream>>>(params);
  return CudaStatus(cudaGetLastError(), "select_rows launch");
}

}  // namespace intarsia::kernels
