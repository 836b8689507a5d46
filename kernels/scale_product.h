// ScaleProduct: what a product of e4m3 codes still lacks: the scales of its rows and of its
// outputs, and the bias.
//
//   y[row, output] = y[row, output] * row_scale[row] * output_scale[output] + bias[output]
//
// For devices whose cuBLASLt does not scale inside the product.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

enum class DeviceType : uint8_t { kBf16 = 0, kF32 = 1 };

// Dense and row-major. Pointers are device pointers for the CUDA form and host pointers for the
// reference, 16-byte aligned; bf16 is held as bits.
struct ScaleProductParams {
  void* y = nullptr;  // [num_rows, num_outputs], read and written
  DeviceType y_type = DeviceType::kBf16;
  const float* row_scales = nullptr;     // [num_rows]
  const float* output_scales = nullptr;  // [num_outputs]
  const uint16_t* bias = nullptr;        // [num_outputs] bf16; may be null
  int64_t num_rows = 0;                  // 0 does nothing
  int64_t num_outputs = 0;               // a multiple of 8
};

// Enqueues the work on `stream` and returns without waiting. Computes in f32, scales first, and
// rounds once.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for a number of outputs that is no multiple of 8; kInternal if the launch fails.
Status ScaleProductCuda(const ScaleProductParams& params, Stream stream);

// The definition, bit for bit.
Status ScaleProductReference(const ScaleProductParams& params);

// The errors of both forms.
Status CheckScaleProduct(const ScaleProductParams& params);

}  // namespace intarsia::kernels
