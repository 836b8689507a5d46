// DeviceMatrix: products of rows with weights on a device, in bf16 with sums in f32.
//
//   y = x W^T + bias      for x [num_rows, num_inputs], W [num_outputs, num_inputs]
//
// A kernel of our own does the work of up to kDeviceGemvRowsMax rows, cuBLASLt that of more. How is
// decided once for each shape and kept: the number of rows is rounded up to one of a few heights
// (to 8 up to 64 rows, 64 up to 1,024, 512 above) for the choice alone, so that a request with
// another number of rows finds a plan; the product itself touches no row beyond the last.
//
// Thread safety: concurrent calls on distinct outputs and workspaces are safe.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

enum class DeviceType : uint8_t { kBf16 = 0, kF32 = 1 };

// Device pointers, 16-byte aligned; bf16 is held as bits. Nothing overlaps.
struct DeviceMatMulParams {
  const uint16_t* x = nullptr;        // [num_rows, num_inputs] bf16
  const uint16_t* weights = nullptr;  // [num_outputs, num_inputs] bf16
  const uint16_t* bias = nullptr;     // [num_outputs] bf16, or null; only with y_type kBf16
  void* y = nullptr;                  // [num_rows, num_outputs]
  DeviceType y_type = DeviceType::kBf16;
  int64_t num_rows = 0;     // 0 does nothing
  int64_t num_inputs = 0;   // a multiple of 8
  int64_t num_outputs = 0;  // a multiple of 8
  // Scratch memory for this product, 256-byte aligned; of the size that the products were created
  // for. Products on one stream may share it.
  void* workspace = nullptr;
};

class DeviceMatrixProducts {
 public:
  // What cuBLASLt's own advice is for Hopper.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // For the calling thread's device.
  // Errors: kInternal or kResourceExhausted if cuBLASLt cannot start.
  static Result<std::unique_ptr<DeviceMatrixProducts>> Create();
  ~DeviceMatrixProducts();
  DeviceMatrixProducts(const DeviceMatrixProducts&) = delete;
  DeviceMatrixProducts& operator=(const DeviceMatrixProducts&) = delete;

  // Enqueues the product on `stream` and returns without waiting. The first product of a shape
  // takes a fraction of a millisecond longer on the host. A NaN or an infinity reaches its own row
  // or column only. Two runs of one shape give the same bits.
  // Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
  // for a size that is no multiple of 8, or for which there is no algorithm; kInternal if the
  // launch fails.
  Status MultiplyCuda(const DeviceMatMulParams& params, Stream stream);

 private:
  struct State;
  explicit DeviceMatrixProducts(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

// The definition: one thread, double accumulation, host pointers; needs no workspace.
Status DeviceMatMulReference(const DeviceMatMulParams& params);

// The errors of both forms.
Status CheckDeviceMatMul(const DeviceMatMulParams& params);

}  // namespace intarsia::kernels
