// Grid dependencies: a kernel that begins while the one before it on its stream still runs.
//
// Launched with LaunchBehind, a kernel may start once every block of the kernel before it has said
// that it may, or has ended. Until WaitForEarlierKernels it must neither write what others see nor
// read what an earlier kernel writes; what nobody writes, such as weights, it may fetch. On
// devices before compute capability 9.0, and behind work that says nothing, kernels follow one
// another as ever.
//
// So that an order holds through a whole chain, every kernel that is launched with LaunchBehind
// calls WaitForEarlierKernels in each of its blocks.
#pragma once

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/cuda_status.h"
#include "kernels/kernel_launch.cuh"

namespace intarsia::kernels {

// Lets the next kernel on the stream start as soon as all blocks have come here.
__device__ __forceinline__ void LetLaterKernelsStart() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// Waits until the kernels before this one have ended and what they wrote is visible.
__device__ __forceinline__ void WaitForEarlierKernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// LaunchKernel for a kernel that may begin early. Errors: kInternal, naming `operation`.
template <typename Arguments>
Status LaunchBehind(const char* operation, void (*kernel)(Arguments), const LaunchShape& shape,
                    const Arguments& arguments) {
  INTARSIA_RETURN_IF_ERROR(AllowSharedBytes(operation, kernel, shape.shared_bytes));
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(shape.num_blocks, shape.num_blocks_y, shape.num_blocks_z);
  config.blockDim = dim3(static_cast<unsigned>(shape.num_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return CudaStatus(cudaLaunchKernelEx(&config, kernel, arguments), operation);
}

}  // namespace intarsia::kernels
