// Bound: memory. Each output is read and written: 4 bytes in bf16, 8 in f32.
// Design: a thread a vector of outputs, whose scales stay in registers for several rows.
#include <cstdint>
#include <type_traits>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/scale_product.h"

namespace intarsia::kernels {
namespace {

template <typename T_>
struct ScaleProductTraits {
  using T = T_;  // uint16_t, the bits of a bf16, or float
  static constexpr int kThreads = 256;
  static constexpr int64_t kBlockColumns = int64_t{kThreads} * kVectorElements;
  static constexpr int64_t kRows = 16;  // of a block
};

// Grid: blocks of kRows rows times blocks of kBlockColumns outputs, the latter fastest.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    ScaleProductKernel(const __grid_constant__ ScaleProductParams params) {
  using T = typename Traits::T;
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t num_column_blocks =
      (params.num_outputs + Traits::kBlockColumns - 1) / Traits::kBlockColumns;
  const int64_t column = blockIdx.x % num_column_blocks * Traits::kBlockColumns +
                         int64_t{threadIdx.x} * kVectorElements;
  if (column >= params.num_outputs) return;
  const int64_t begin = blockIdx.x / num_column_blocks * Traits::kRows;
  const int64_t end =
      begin + Traits::kRows < params.num_rows ? begin + Traits::kRows : params.num_rows;
  const Floats8 output_scales = LoadFloats8(params.output_scales + column);
  Floats8 bias{};
  if (params.bias != nullptr) bias = LoadBf16Vector(params.bias + column);
  for (int64_t row = begin; row < end; ++row) {
    T* const y = static_cast<T*>(params.y) + row * params.num_outputs + column;
    const float row_scale = params.row_scales[row];
    Floats8 floats;
    if constexpr (std::is_same_v<T, float>) {
      floats = LoadFloats8(y);
    } else {
      floats = LoadBf16Vector(y);
    }
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) {
      const float scaled = __fmul_rn(floats.at[i], row_scale);
      floats.at[i] = __fadd_rn(__fmul_rn(scaled, output_scales.at[i]), bias.at[i]);
    }
    if constexpr (std::is_same_v<T, float>) {
      StoreFloats8(floats, y);
    } else {
      StoreBf16Vector(floats, y);
    }
  }
}

template <typename T>
Status Launch(const ScaleProductParams& params, Stream stream) {
  using Traits = ScaleProductTraits<T>;
  const int64_t num_blocks =
      ((params.num_rows + Traits::kRows - 1) / Traits::kRows) *
      ((params.num_outputs + Traits::kBlockColumns - 1) / Traits::kBlockColumns);
  if (num_blocks >= int64_t{1} << 31) {
    return Status(StatusCode::kUnsupported, "scale product: too many elements for one launch");
  }
  return LaunchBehind("scale product launch", ScaleProductKernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(num_blocks),
                       .num_threads = Traits::kThreads,
                       .stream = stream},
                      params);
}

}  // namespace

Status ScaleProductCuda(const ScaleProductParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckScaleProduct(params));
  if (params.num_rows == 0) return Status::Ok();
  switch (params.y_type) {
    case DeviceType::kBf16:
      return Launch<uint16_t>(params, stream);
    case DeviceType::kF32:
      return Launch<float>(params, stream);
    default:
      return Status(StatusCode::kUnsupported, "scale product: unknown type");
  }
}

}  // namespace intarsia::kernels
