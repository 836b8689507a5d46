// Bound: memory. Each byte of a chosen row is read and written once.
// Design: a block a row; 16 bytes a thread where the row's size allows it, 4 otherwise.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/cuda_status.h"
#include "kernels/gather_rows.h"

namespace intarsia::kernels {
namespace {

struct GatherRowsTraits {
  static constexpr int kThreads = 256;
};

template <typename Word>
__device__ void CopyRow(const GatherRowsParams& params, int64_t row) {
  const int64_t num_words = params.row_bytes / static_cast<int64_t>(sizeof(Word));
  const auto* const source = static_cast<const Word*>(params.source) + row * num_words;
  auto* const target = static_cast<Word*>(params.target) + int64_t{blockIdx.x} * num_words;
  const bool is_inside = row >= 0 && row < params.num_source_rows;
  for (int64_t i = threadIdx.x; i < num_words; i += GatherRowsTraits::kThreads) {
    target[i] = is_inside ? source[i] : Word{};
  }
}

// Grid: num_rows. Block: kThreads.
__global__ void __launch_bounds__(GatherRowsTraits::kThreads)
    GatherRowsKernel(const __grid_constant__ GatherRowsParams params) {
  const int64_t row = params.rows[blockIdx.x];
  if (params.row_bytes % static_cast<int64_t>(sizeof(uint4)) == 0) {
    CopyRow<uint4>(params, row);
  } else {
    CopyRow<uint32_t>(params, row);
  }
}

// Grid: num_rows. Block: kThreads.
__global__ void __launch_bounds__(GatherRowsTraits::kThreads)
    EmbedRowsKernel(const __grid_constant__ EmbedRowsParams params) {
  const int64_t token = params.tokens[blockIdx.x];
  const bool is_known = token >= 0 && token < params.vocab_size;
  float* const target = params.hidden + int64_t{blockIdx.x} * params.dim;
  for (int64_t column = int64_t{threadIdx.x} * kVectorElements; column < params.dim;
       column += GatherRowsTraits::kThreads * kVectorElements) {
    Floats8 floats{};
    if (is_known) floats = LoadBf16Vector(params.table + token * params.dim + column);
#pragma unroll
    for (int i = 0; i < kVectorElements; ++i) floats.at[i] *= params.scale;
    StoreFloats8(floats, target + column);
  }
}

}  // namespace

Status GatherRowsCuda(const GatherRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckGatherRows(params));
  if (params.num_rows == 0) return Status::Ok();
  GatherRowsKernel<<<static_cast<unsigned>(params.num_rows), GatherRowsTraits::kThreads, 0,
                     stream>>>(params);
  return CudaStatus(cudaGetLastError(), "gather rows launch");
}

Status EmbedRowsCuda(const EmbedRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckEmbedRows(params));
  if (params.num_rows == 0) return Status::Ok();
  EmbedRowsKernel<<<static_cast<unsigned>(params.num_rows), GatherRowsTraits::kThreads, 0,
                    stream>>>(params);
  return CudaStatus(cudaGetLastError(), "embed rows launch");
}

}  // namespace intarsia::kernels
