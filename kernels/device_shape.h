// DeviceShape: what launches want to know of the calling thread's device. For kernels/ only; cheap
// enough for every launch, unlike QueryDevice.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

#include "base/result.h"
#include "kernels/cuda_status.h"

namespace intarsia::kernels {

struct DeviceShape {
  int32_t capability = 0;  // 10 * major + minor: 90 for Hopper
  int32_t num_multiprocessors = 0;
};

// Errors: kInternal, naming `operation`.
inline Result<DeviceShape> CurrentDeviceShape(const char* operation) {
  int device = 0;
  int major = 0;
  int minor = 0;
  DeviceShape shape;
  INTARSIA_RETURN_IF_ERROR(CudaStatus(cudaGetDevice(&device), operation));
  for (const auto& [attribute, value] :
       {std::pair{cudaDevAttrComputeCapabilityMajor, &major},
        std::pair{cudaDevAttrComputeCapabilityMinor, &minor},
        std::pair{cudaDevAttrMultiProcessorCount, &shape.num_multiprocessors}}) {
    INTARSIA_RETURN_IF_ERROR(
        CudaStatus(cudaDeviceGetAttribute(value, attribute, device), operation));
  }
  shape.capability = 10 * major + minor;
  return shape;
}

}  // namespace intarsia::kernels
