#include "kernels/tensor_map.h"

#include <cstdint>
#include <limits>
#include <string>

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include "kernels/cuda_status.h"

namespace intarsia::kernels {
namespace {

constexpr uint32_t kBoxColumns = 64;
constexpr unsigned kSinceVersion = 12000;

}  // namespace

Result<CUtensorMap> MakeTensorMap(const TensorMapShape& shape) {
  if (shape.num_rows <= 0 || shape.num_rows > std::numeric_limits<int32_t>::max()) {
    return Status(StatusCode::kUnsupported, "matrix is too large for bulk copies: num_rows=" +
                                                std::to_string(shape.num_rows));
  }
  // The driver's library is found at run time, so that programs start without one.
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  INTARSIA_RETURN_IF_ERROR(
      CudaStatus(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                  kSinceVersion, cudaEnableDefault, &found),
                 "find cuTensorMapEncodeTiled"));
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return Status(StatusCode::kUnsupported, "the driver has no cuTensorMapEncodeTiled");
  }
  const auto encode = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(shape.num_columns),
                               static_cast<cuuint64_t>(shape.num_rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(shape.num_columns) * 2};
  const cuuint32_t box[2] = {kBoxColumns, static_cast<cuuint32_t>(shape.box_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  CUtensorMap map;
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(shape.data), sizes, strides, box,
      element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return Status(StatusCode::kInternal,
                  "cuTensorMapEncodeTiled failed: result=" + std::to_string(result) +
                      " num_rows=" + std::to_string(shape.num_rows) +
                      " num_columns=" + std::to_string(shape.num_columns));
  }
  return map;
}

}  // namespace intarsia::kernels
