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
  int num_threads = 0;
  int shared_bytes = 0;  // dynamic
  Stream stream = nullptr;
};

// Errors: kInternal, naming `operation`.
template <typename Arguments>
Status LaunchKernel(const char* operation, void (*kernel)(Arguments), const LaunchShape& shape,
                    const Arguments& arguments) {
  constexpr int kWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kWithoutAsking) {
    INTARSIA_RETURN_IF_ERROR(
        CudaStatus(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        shape.shared_bytes),
                   operation));
  }
  kernel<<<shape.num_blocks, static_cast<unsigned>(shape.num_threads),
           static_cast<size_t>(shape.shared_bytes), shape.stream>>>(arguments);
  return CudaStatus(cudaGetLastError(), operation);
}

}  // namespace intarsia::kernels
