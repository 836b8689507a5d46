// DeviceMatrix: products of rows with weights on a device, in bf16 or e4m3 with sums in f32.
//
//   y = x W^T + bias      for x [num_rows, num_inputs], W [num_outputs, num_inputs]
//
// In e4m3 (fp8) each row of x and each row of W, an output, has a scale, which cuBLASLt applies to
// the sum on Hopper and ScaleProduct elsewhere.
//
// In bf16 a kernel of our own does the work of up to kDeviceGemvRowsMax rows, cuBLASLt that of more
// and all in e4m3. How is decided once for each shape and kept: the number of rows is
// rounded up to one of a few heights (to 8 up to 64 rows, 64 up to 1,024, 512 above) for the choice
// alone, so that a request with another number of rows finds a plan; the product itself touches no
// row beyond the last.
//
// Thread safety: concurrent calls on distinct outputs and workspaces are safe.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "kernels/e4m3.h"
#include "kernels/scale_product.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// How sums of products in e4m3 are kept on Hopper, whose matrix units add with about 14 bits:
// kF32 moves them to f32 registers every few products, kFast at the end.
enum class Fp8Sums : uint8_t { kF32 = 0, kFast = 1 };

// Where the scales of e4m3 are multiplied: inside the product, or behind it by ScaleProduct.
enum class Fp8Scaling : uint8_t { kInside = 0, kBehind = 1 };

struct DeviceMatrixOptions {
  // kInside is a wish: where cuBLASLt has no such product, it is as kBehind.
  Fp8Scaling fp8_scaling = Fp8Scaling::kInside;
};

// Device pointers, 16-byte aligned; bf16 is held as bits. Nothing overlaps.
struct DeviceMatMulParams {
  const uint16_t* x = nullptr;        // [num_rows, num_inputs] bf16
  const uint16_t* weights = nullptr;  // [num_outputs, num_inputs] bf16
  // In place of these two, which then are null: e4m3 with scales of rows and of outputs.
  Fp8Rows x_fp8 = {};
  Fp8Rows weights_fp8 = {};
  Fp8Sums fp8_sums = Fp8Sums::kF32;
  const uint16_t* bias = nullptr;  // [num_outputs] bf16, or null; only with y_type kBf16
  void* y = nullptr;               // [num_rows, num_outputs]
  DeviceType y_type = DeviceType::kBf16;
  int64_t num_rows = 0;    // 0 does nothing
  int64_t num_inputs = 0;  // a multiple of 8; in e4m3 of 16, as num_outputs
  int64_t num_outputs = 0;
  // Scratch memory for this product, 256-byte aligned; of the size that the products were created
  // for. Products on one stream may share it.
  void* workspace = nullptr;

  bool is_fp8() const { return x_fp8.codes != nullptr; }
};

class DeviceMatrixProducts {
 public:
  // What cuBLASLt's own advice is for Hopper.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // For the calling thread's device.
  // Errors: kInternal or kResourceExhausted if cuBLASLt cannot start.
  static Result<std::unique_ptr<DeviceMatrixProducts>> Create(
      const DeviceMatrixOptions& options = {});
  ~DeviceMatrixProducts();
  DeviceMatrixProducts(const DeviceMatrixProducts&) = delete;
  DeviceMatrixProducts& operator=(const DeviceMatrixProducts&) = delete;

  // Enqueues the product on `stream`. The first product of a shape with 256 rows or more runs a few
  // proposals of cuBLASLt's on its operands, waits for them and keeps the fastest, which takes some
  // 100 products' time; every other call returns without waiting. A NaN or an infinity reaches its
  // own row or column only. Two runs of one shape give the same bits, but another process may
  // settle on another plan, whose sums are rounded otherwise.
  // Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
  // for a size that is no multiple of 8, or for which there is no algorithm, as for e4m3 on devices
  // older than compute capability 8.9; kInternal if the launch fails.
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
