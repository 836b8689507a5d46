// Bound: memory: reads each row's V and its payload once, 2 to 6 bytes a number.
// Design: a warp takes a row, a lane eight columns at a time; lanes are added up by shuffles.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda_status.h"
#include "kernels/kv_decode.cuh"
#include "kernels/value_deviation.h"

namespace intarsia::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;

template <KvPayloadType kType>
__device__ float SquaredDistance(const ValueDeviationParams& params, int segment, int token,
                                 const uint16_t* computed, int lane) {
  const KvHalfView half =
      ViewHalf(params.segments[segment], params.payloads[segment], params.width, /*is_key=*/false);
  float sum = 0.0f;
  for (int column = lane * kRawNumbers; column < params.width; column += 32 * kRawNumbers) {
    const uint4 fresh = *reinterpret_cast<const uint4*>(computed + column);
    const RawNumbers<kType> raw = LoadRaw<kType>(half.codes, token, params.width, column);
    float cached[kRawNumbers];
    Decode<kType>(raw, half.parameters, token, column, cached);
    const uint32_t words[4] = {fresh.x, fresh.y, fresh.z, fresh.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = WidenBf16Pair(words[i]);
      const float low = pair.x - cached[2 * i];
      const float high = pair.y - cached[2 * i + 1];
      sum = fmaf(low, low, sum);
      sum = fmaf(high, high, sum);
    }
  }
  return sum;
}

// Grid: ceil(num_rows / kWarps). Block: kThreads.
__global__ void __launch_bounds__(kThreads)
    ValueDeviationKernel(const __grid_constant__ ValueDeviationParams params) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= params.num_rows) return;
  const int segment = params.row_segments[row];
  if (segment < 0) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int position = params.positions[row];
  const int token = position - params.segments[segment].begin;
  const uint16_t* const computed = params.v + row * params.v_stride;
  float sum = 0.0f;
  VisitPayloadType(params.segments[segment].type, [&]<KvPayloadType kType>() {
    sum = SquaredDistance<kType>(params, segment, token, computed, lane);
  });
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (lane == 0) params.deviation[position] = sum;
}

}  // namespace

Status ValueDeviationCuda(const ValueDeviationParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckValueDeviation(params));
  if (params.num_rows == 0) return Status::Ok();
  const auto num_blocks = static_cast<unsigned>((params.num_rows + kWarps - 1) / kWarps);
  ValueDeviationKernel<<<num_blocks, kThreads, 0, stream>>>(params);
  return CudaStatus(cudaGetLastError(), "value_deviation launch");
}

}  // namespace intarsia::kernels
