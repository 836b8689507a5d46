// Bound: memory. 6 bytes an output: gate and up read, y written; 5 where y is e4m3.
// Design: a thread an output vector; for e4m3 a block a row, which stays in registers between its
// largest number and the codes.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/fp8_row.cuh"
#include "kernels/gated_activation.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/quantize_rows.h"

namespace intarsia::kernels {
namespace {

template <Activation kKind_>
struct GatedActivationTraits {
  static constexpr Activation kKind = kKind_;
  static constexpr int kThreads = 256;
};

template <Activation kKind_, int kVectors_>
struct GatedActivationFp8Traits {
  static constexpr Activation kKind = kKind_;
  static constexpr int kVectors = kVectors_;  // of a thread
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpLanes;
  static constexpr int64_t kDimMax = int64_t{kVectors} * kThreads * kVectorElements;
};

template <Activation kKind>
__device__ float Activate(float x) {
  if constexpr (kKind == Activation::kSilu) {
    // The quotient's limit at -infinity is -0, which x / (1 + inf) would make NaN.
    return x == -INFINITY ? -0.0F : x / (1.0F + __expf(-x));
  } else if constexpr (kKind == Activation::kGeluTanh) {
    if (x == -INFINITY) return -0.0F;
    const float inner = 0.7978845608028654F * (x + 0.044715F * x * x * x);
    return 0.5F * x * (1.0F + tanhf(inner));
  } else {
    if (x == -INFINITY) return -0.0F;
    return 0.5F * x * (1.0F + erff(x * 0.7071067811865476F));
  }
}

// activation(gate) * up of a vector; `dim` elements lie between the two.
template <Activation kKind>
__device__ Floats8 ActivateVector(const uint16_t* gate_up, int64_t dim) {
  Floats8 gate = LoadBf16Vector(gate_up);
  const Floats8 up = LoadBf16Vector(gate_up + dim);
#pragma unroll
  for (int i = 0; i < kVectorElements; ++i) gate.at[i] = Activate<kKind>(gate.at[i]) * up.at[i];
  return gate;
}

// Grid: (ceil(dim / 8 / kThreads), blocks over rows). A block takes every gridDim.y-th row.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    GatedActivationKernel(const __grid_constant__ GatedActivationParams params) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t column = (int64_t{blockIdx.x} * Traits::kThreads + threadIdx.x) * kVectorElements;
  if (column >= params.dim) return;
  for (int64_t row = blockIdx.y; row < params.num_rows; row += gridDim.y) {
    const uint16_t* const x = params.gate_up + row * 2 * params.dim + column;
    StoreBf16Vector(ActivateVector<Traits::kKind>(x, params.dim),
                    params.y + row * params.dim + column);
  }
}

// Grid: num_rows. Block: kThreads, whose thread t has the vectors t, t + kThreads, ... of its row.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    GatedActivationFp8Kernel(const __grid_constant__ GatedActivationParams params) {
  __shared__ uint32_t scratch[Traits::kWarps];
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t row = blockIdx.x;
  uint4 y[Traits::kVectors];
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    const int64_t column = (int64_t{i} * Traits::kThreads + threadIdx.x) * kVectorElements;
    if (column >= params.dim) continue;
    const uint16_t* const x = params.gate_up + row * 2 * params.dim + column;
    y[i] = PackBf16Vector(ActivateVector<Traits::kKind>(x, params.dim));
  }
  StoreFp8Row<Traits::kThreads>(y, row, params.dim, params.y_fp8, scratch);
}

template <Activation kKind, int kVectors>
Status LaunchFp8(const GatedActivationParams& params, Stream stream) {
  using Traits = GatedActivationFp8Traits<kKind, kVectors>;
  if constexpr (Traits::kDimMax < kFp8DimMax) {
    if (params.dim > Traits::kDimMax) return LaunchFp8<kKind, 2 * kVectors>(params, stream);
  }
  return LaunchBehind("gated activation launch", GatedActivationFp8Kernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(params.num_rows),
                       .num_threads = Traits::kThreads,
                       .stream = stream},
                      params);
}

template <Activation kKind>
Status Launch(const GatedActivationParams& params, Stream stream) {
  if (params.y == nullptr) return LaunchFp8<kKind, 2>(params, stream);
  using Traits = GatedActivationTraits<kKind>;
  constexpr int64_t kBlockElements = int64_t{Traits::kThreads} * kVectorElements;
  const auto num_columns =
      static_cast<unsigned>((params.dim + kBlockElements - 1) / kBlockElements);
  const auto num_rows = static_cast<unsigned>(params.num_rows < 65'535 ? params.num_rows : 65'535);
  return LaunchBehind("gated activation launch", GatedActivationKernel<Traits>,
                      {.num_blocks = num_columns,
                       .num_blocks_y = num_rows,
                       .num_threads = Traits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace

Status GatedActivationCuda(const GatedActivationParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckGatedActivation(params));
  if (params.num_rows == 0) return Status::Ok();
  switch (params.kind) {
    case Activation::kSilu:
      return Launch<Activation::kSilu>(params, stream);
    case Activation::kGeluTanh:
      return Launch<Activation::kGeluTanh>(params, stream);
    case Activation::kGeluErf:
      return Launch<Activation::kGeluErf>(params, stream);
    default:
      return Status(StatusCode::kUnsupported, "gated activation: unknown kind");
  }
}

}  // namespace intarsia::kernels
