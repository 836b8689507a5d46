// GemvRows: products of a few rows with weights on a device, at the speed at which weights are
// read.
//
// What a decoding step is made of. DeviceMatrixProducts calls it on devices of compute capability
// 9.0, where it is faster than cuBLASLt (docs/kernels/gemv_rows.md).
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/device_matrix.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// One row gains 2 to 40 % on cuBLASLt, eight rows nothing; the kernel itself has room for eight.
inline constexpr int64_t kDeviceGemvRowsMax = 4;

// y = x W^T + bias for at most kDeviceGemvRowsMax rows, in bf16 with sums in f32; no workspace.
// Sums are taken in a fixed order, which depends on num_inputs alone: a row gives the same bits
// whatever stands beside it. The definition is DeviceMatMulReference.
// Errors: those of CheckDeviceMatMul; kUnsupported for more rows; kInternal on another device.
Status GemvRowsCuda(const DeviceMatMulParams& params, Stream stream);

}  // namespace intarsia::kernels
