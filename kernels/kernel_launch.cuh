// LaunchKernel: puts a kernel of one parameter struct, and of any amount of dynamic shared memory,
// on a stream.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda_status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

struct LaunchShape {
  unsigned num_blocks = 0;
  unsigned num_blocks_y = 1;
  unsigned num_blocks_z = 1;
  int num_threads = 0;
  int shared_bytes = 0;  // dynamic
  Stream stream = nullptr;
};

// Lets a kernel have so much dynamic shared memory. Errors: kInternal, naming `operation`.
template <typename Kernel>
Status AllowSharedBytes(const char* operation, Kernel kernel, int shared_bytes) {
  constexpr int kWithoutAsking = 48 * 1024;
  if (shared_bytes <= kWithoutAsking) return Status::Ok();
  return CudaStatus(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
      operation);
}

// Errors: kInternal, naming `operation`.
template <typename Arguments>
Status LaunchKernel(const char* operation, void (*kernel)(Arguments), const LaunchShape& shape,
                    const Arguments& arguments) {
  INTARSIA_RETURN_IF_ERROR(AllowSharedBytes(operation, kernel, shape.shared_bytes));
  kernel<<<dim3(shape.num_blocks, shape.num_blocks_y, shape.num_blocks_z),
           static_cast<unsigned>(shape.num_threads), static_cast<size_t>(shape.shared_bytes),
           shape.stream>>>(arguments);
  return CudaStatus(cudaGetLastError(), operation);
}

}  // namespace intarsia::kernels
