// Bound: memory, and at 15 % of a prompt mostly latency: reads the rows' K, V and their payload and
// writes their difference, 6 bytes a number for bf16 payloads.
// Design: a block takes one chunk and 256 columns; its many warps take rows in turn, so that no
// warp waits for memory more than a few times, and keep their part of the weighted sum. The block
// that is done last adds the chunks up, in their order whichever it is.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/grid_dependency.cuh"
#include "kernels/kv_decode.cuh"
#include "kernels/measure_shift.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

struct MeasureShiftTraits {
  static constexpr int kThreads = 1024;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kColumns = 32 * kRawNumbers;
  static_assert(kColumns <= kThreads, "a thread sums up a column");
};

int64_t NumColumnBlocks(int64_t width) {
  return (width + MeasureShiftTraits::kColumns - 1) / MeasureShiftTraits::kColumns;
}

// What a lane does for its eight columns: writes the differences of every kWarps-th row and adds
// them up by their weights.
template <KvPayloadType kType>
__device__ void MeasureRows(const MeasureShiftParams& params, const PropagationChunk& chunk,
                            int column, float (&sum)[kRawNumbers]) {
  const bool is_key = blockIdx.y == 0;
  const KvHalfView half = ViewHalf(params.segments[chunk.segment], params.payloads[chunk.segment],
                                   params.width, is_key);
  const uint16_t* const computed = is_key ? params.k : params.v;
  const int64_t stride = is_key ? params.k_stride : params.v_stride;
  const float* const u = is_key ? params.key_u : params.value_u;
  const uint16_t* const known = is_key ? params.known_key_deltas : params.known_value_deltas;
  uint16_t* const deltas = is_key ? params.key_deltas : params.value_deltas;
#pragma unroll 2
  for (int s = static_cast<int>(threadIdx.x) / 32; s < chunk.num_rows;
       s += MeasureShiftTraits::kWarps) {
    const int64_t row = int64_t{chunk.first_row} + s;
    const int token = params.rows[row];
    const int pass_row = params.pass_rows[row];
    const bool is_known = pass_row < 0;
    // Past the first-level cache, which nothing has told yet that the rows are new.
    const uint4 fresh = __ldcg(
        reinterpret_cast<const uint4*>(is_known ? known + int64_t{~pass_row} * params.width + column
                                                : computed + pass_row * stride + column));
    const RawNumbers<kType> raw = LoadRaw<kType>(half.codes, token, params.width, column);
    float cached[kRawNumbers];
    Decode<kType>(raw, half.parameters, token, column, cached);
    if (is_known) {
#pragma unroll
      for (int i = 0; i < kRawNumbers; ++i) cached[i] = 0.0f;
    }
    const uint32_t words[4] = {fresh.x, fresh.y, fresh.z, fresh.w};
    uint32_t packed[4];
    const float weight = u[row];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = WidenBf16Pair(words[i]);
      const float low = pair.x - cached[2 * i];
      const float high = pair.y - cached[2 * i + 1];
      sum[2 * i] = fmaf(weight, low, sum[2 * i]);
      sum[2 * i + 1] = fmaf(weight, high, sum[2 * i + 1]);
      packed[i] = PackBf16(low, high);
    }
    *reinterpret_cast<uint4*>(deltas + (int64_t{chunk.first_delta} + s) * params.width + column) =
        make_uint4(packed[0], packed[1], packed[2], packed[3]);
  }
}

// Writes the sums of column `own` over all chunks, or over earlier ones, behind their rows.
__device__ void SumChunks(const MeasureShiftParams& params, int own) {
  const bool is_causal = params.order == PropagationOrder::kCausal;
  const float* const parts =
      params.workspace + int64_t{blockIdx.y} * params.num_chunks * params.width + own;
  uint16_t* const deltas = (blockIdx.y == 0 ? params.key_deltas : params.value_deltas) + own;
  const auto write = [&](int chunk, float sum) {
    const int64_t row = int64_t{params.chunks[chunk].first_delta} + params.chunks[chunk].num_rows;
    deltas[row * params.width] = static_cast<uint16_t>(PackBf16(sum, 0.0f));
  };
  float sum = 0.0f;
#pragma unroll 8
  for (int chunk = 0; chunk < params.num_chunks; ++chunk) {
    // Other multiprocessors wrote it, so it must not come from this one's cache.
    const float part = __ldcg(parts + int64_t{chunk} * params.width);
    if (is_causal) write(chunk, sum);
    sum += part;
  }
  if (is_causal) return;
#pragma unroll 8
  for (int chunk = 0; chunk < params.num_chunks; ++chunk) write(chunk, sum);
}

// Whether all other blocks of this one's columns have said so before. Then they may begin anew.
__device__ bool IsLastBlock(const MeasureShiftParams& params) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    auto* const counters = reinterpret_cast<uint32_t*>(
        params.workspace + int64_t{2} * params.num_chunks * params.width);
    uint32_t* const counter = counters + blockIdx.z * 2 + blockIdx.y;
    is_last = atomicAdd(counter, 1) + 1 == gridDim.x;
    if (is_last) *counter = 0;
  }
  __syncthreads();
  if (is_last) __threadfence();
  return is_last;
}

// Grid: (num_chunks, K and V, ceil(width / kColumns)). Block: kThreads; a lane takes 8 columns.
__global__ void __launch_bounds__(MeasureShiftTraits::kThreads)
    MeasureKernel(const __grid_constant__ MeasureShiftParams params) {
  using Traits = MeasureShiftTraits;
  __shared__ float sums[Traits::kWarps][Traits::kColumns];
  LetLaterKernelsStart();
  const PropagationChunk chunk = params.chunks[blockIdx.x];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_column = static_cast<int>(blockIdx.z) * Traits::kColumns;
  const int column = first_column + lane * kRawNumbers;
  float sum[kRawNumbers] = {};
  if (column < params.width) {
    VisitPayloadType(params.segments[chunk.segment].type, [&]<KvPayloadType kType>() {
      MeasureRows<kType>(params, chunk, column, sum);
    });
  }
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < kRawNumbers; ++i) sums[warp][lane * kRawNumbers + i] = sum[i];
  __syncthreads();
  const int own = first_column + static_cast<int>(threadIdx.x);
  const bool is_summing = static_cast<int>(threadIdx.x) < Traits::kColumns && own < params.width;
  if (is_summing) {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < Traits::kWarps; ++i) total += sums[i][threadIdx.x];
    params.workspace[(int64_t{blockIdx.y} * params.num_chunks + blockIdx.x) * params.width + own] =
        total;
  }
  if (IsLastBlock(params) && is_summing) SumChunks(params, own);
  // It runs beside the kernel in front, of which it needs nothing; what comes behind may.
  WaitForEarlierKernels();
}

}  // namespace

int64_t MeasureShiftWorkspaceBytes(int64_t num_chunks, int64_t width) {
  return 2 * (num_chunks * width + NumColumnBlocks(width)) * static_cast<int64_t>(sizeof(float));
}

Status MeasureShiftCuda(const MeasureShiftParams& params, Stream stream) {
  using Traits = MeasureShiftTraits;
  INTARSIA_RETURN_IF_ERROR(CheckMeasureShift(params));
  if (params.num_chunks == 0) return Status::Ok();
  return LaunchBehind("measure_shift", MeasureKernel,
                      {.num_blocks = static_cast<unsigned>(params.num_chunks),
                       .num_blocks_y = 2,
                       .num_blocks_z = static_cast<unsigned>(NumColumnBlocks(params.width)),
                       .num_threads = Traits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace intarsia::kernels
