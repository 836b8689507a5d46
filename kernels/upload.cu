// Bound: the link, and its latency of about a microsecond, which many loads in flight hide.
// Design: 16 bytes a thread and step over few blocks; the rest by words.
#include <algorithm>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "kernels/cuda_status.h"
#include "kernels/device_pointer.h"
#include "kernels/upload.h"

namespace intarsia::kernels {
namespace {

struct UploadTraits {
  static constexpr int kThreads = 256;
  static constexpr int64_t kBlocksMax = 16;
};

// Grid: at most kBlocksMax. Block: kThreads.
__global__ void __launch_bounds__(UploadTraits::kThreads)
    UploadKernel(const __grid_constant__ UploadParams params) {
  const int64_t thread = int64_t{blockIdx.x} * UploadTraits::kThreads + threadIdx.x;
  const int64_t num_threads = int64_t{gridDim.x} * UploadTraits::kThreads;
  const int64_t num_vectors = params.num_bytes / 16;
#pragma unroll 4
  for (int64_t i = thread; i < num_vectors; i += num_threads) {
    static_cast<uint4*>(params.target)[i] = static_cast<const uint4*>(params.source)[i];
  }
  const int64_t num_words = params.num_bytes / 4;
  for (int64_t i = 4 * num_vectors + thread; i < num_words; i += num_threads) {
    static_cast<uint32_t*>(params.target)[i] = static_cast<const uint32_t*>(params.source)[i];
  }
}

}  // namespace

Status UploadCuda(const UploadParams& params, Stream stream) {
  if (params.num_bytes < 0 || params.num_bytes % 4 != 0) {
    return Status(
        StatusCode::kInvalidArgument,
        "upload: size is negative or no multiple of 4: bytes=" + std::to_string(params.num_bytes));
  }
  if (params.num_bytes == 0) return Status::Ok();
  if (!IsVectorAligned(params.source) || !IsVectorAligned(params.target)) {
    return Status(StatusCode::kInvalidArgument, "upload: null or misaligned pointer");
  }
  constexpr int64_t kBlockBytes = int64_t{UploadTraits::kThreads} * 16;
  const auto num_blocks = static_cast<unsigned>(
      std::min(UploadTraits::kBlocksMax, (params.num_bytes + kBlockBytes - 1) / kBlockBytes));
  UploadKernel<<<num_blocks, UploadTraits::kThreads, 0, stream>>>(params);
  return CudaStatus(cudaGetLastError(), "upload launch");
}

}  // namespace intarsia::kernels
