// Bound: memory. 6 bytes an output: gate and up read, y written.
// Design: a thread an output vector.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/gated_activation.h"
#include "kernels/grid_dependency.cuh"

namespace intarsia::kernels {
namespace {

template <Activation kKind_>
struct GatedActivationTraits {
  static constexpr Activation kKind = kKind_;
  static constexpr int kThreads = 256;
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
    Floats8 gate = LoadBf16Vector(x);
    const Floats8 up = LoadBf16Vector(x + params.dim);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) {
      gate.at[i] = Activate<Traits::kKind>(gate.at[i]) * up.at[i];
    }
    StoreBf16Vector(gate, params.y + row * params.dim + column);
  }
}

template <Activation kKind>
Status Launch(const GatedActivationParams& params, Stream stream) {
  using Traits = GatedActivationTraits<kKind>;
  constexpr int64_t kBlockElements = int64_t{Traits::kThreads} * kVectorElements;
  const auto num_columns =
      static_cast<unsigned>((params.dim + kBlockElements - 1) / kBlockElements);
  const auto num_rows = static_cast<unsigned>(params.num_rows < 65'535 ? params.num_rows : 65'535);
  return LaunchBehind("gated activation launch", GatedActivationKernel<Traits>,
                      dim3(num_columns, num_rows), Traits::kThreads, stream, params);
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
