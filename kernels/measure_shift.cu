// Bound: memory, and at 15 % of a prompt mostly latency: reads the rows' K, V and their payload and
// writes their difference, 6 bytes a number for bf16 payloads.
// Design: a block takes one chunk and 256 columns; its warps take rows in turn and keep their part
// of the weighted sum, which a second kernel adds up over the chunks.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/grid_dependency.cuh"
#include "kernels/kv_decode.cuh"
#include "kernels/measure_shift.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

struct MeasureShiftTraits {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kColumns = 32 * kRawNumbers;
};

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
    const uint4 fresh =
        is_known
            ? *reinterpret_cast<const uint4*>(known + int64_t{~pass_row} * params.width + column)
            : *reinterpret_cast<const uint4*>(computed + pass_row * stride + column);
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

// Grid: (num_chunks, K and V, ceil(width / kColumns)). Block: kThreads; a lane takes 8 columns.
__global__ void __launch_bounds__(MeasureShiftTraits::kThreads)
    MeasureKernel(const __grid_constant__ MeasureShiftParams params) {
  using Traits = MeasureShiftTraits;
  __shared__ float sums[Traits::kWarps][Traits::kColumns];
  LetLaterKernelsStart();
  WaitForEarlierKernels();
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
  if (own >= params.width) return;
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < Traits::kWarps; ++i) total += sums[i][threadIdx.x];
  params.workspace[(int64_t{blockIdx.y} * params.num_chunks + blockIdx.x) * params.width + own] =
      total;
}

// Grid: (ceil(width / 256), K and V). Block: 256; a thread takes one column of all chunks.
__global__ void __launch_bounds__(256)
    SumChunksKernel(const __grid_constant__ MeasureShiftParams params) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int column = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (column >= params.width) return;
  const bool is_causal = params.order == PropagationOrder::kCausal;
  const float* const parts =
      params.workspace + int64_t{blockIdx.y} * params.num_chunks * params.width + column;
  uint16_t* const deltas = (blockIdx.y == 0 ? params.key_deltas : params.value_deltas) + column;
  const auto write = [&](int chunk, float sum) {
    const int64_t row = int64_t{params.chunks[chunk].first_delta} + params.chunks[chunk].num_rows;
    deltas[row * params.width] = static_cast<uint16_t>(PackBf16(sum, 0.0f));
  };
  float sum = 0.0f;
#pragma unroll 8
  for (int chunk = 0; chunk < params.num_chunks; ++chunk) {
    const float part = parts[int64_t{chunk} * params.width];
    if (is_causal) write(chunk, sum);
    sum += part;
  }
  if (is_causal) return;
#pragma unroll 8
  for (int chunk = 0; chunk < params.num_chunks; ++chunk) write(chunk, sum);
}

}  // namespace

Status MeasureShiftCuda(const MeasureShiftParams& params, Stream stream) {
  using Traits = MeasureShiftTraits;
  INTARSIA_RETURN_IF_ERROR(CheckMeasureShift(params));
  if (params.num_chunks == 0) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(LaunchBehind(
      "measure_shift", MeasureKernel,
      {.num_blocks = static_cast<unsigned>(params.num_chunks),
       .num_blocks_y = 2,
       .num_blocks_z =
           static_cast<unsigned>((params.width + Traits::kColumns - 1) / Traits::kColumns),
       .num_threads = Traits::kThreads,
       .stream = stream},
      params));
  return LaunchBehind("measure_shift", SumChunksKernel,
                      {.num_blocks = static_cast<unsigned>((params.width + 255) / 256),
                       .num_blocks_y = 2,
                       .num_threads = 256,
                       .stream = stream},
                      params);
}

}  // namespace intarsia::kernels
