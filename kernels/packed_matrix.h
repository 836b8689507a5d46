// PackedMatrix: a weight matrix packed once for products with many rows, and the product.
//
// y = x W^T + bias, with W of shape [num_outputs, num_inputs] as model files store it. Products run
// through oneDNN (AMX or AVX-512 bf16 where the CPU has them, f32 otherwise), split over our own
// threads. One or two rows are read-bound and go to quantized_gemv.h instead.
//
// Thread safety: the weights are immutable after Pack; MatMul may be called concurrently. The code
// that oneDNN generates for a new height of rows is kept inside, behind a mutex.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "base/thread_pool.h"

namespace intarsia::kernels {

// kInt8 is that of int8_matrix.h.
enum class ComputeType : uint8_t { kF32 = 0, kBf16 = 1, kInt8 = 2 };

// Whether this CPU multiplies bf16 natively (AVX512_BF16 or AMX), so that kBf16 is the faster one.
bool HasFastBf16();

// Writes rows [row_begin, row_end) of W as f32 into `target` [row_end - row_begin, num_inputs].
// Called concurrently by the threads of the pool, for distinct rows; must not use the pool itself.
using ReadRows = std::function<Status(int64_t row_begin, int64_t row_end, float* target)>;

class PackedMatrix {
 public:
  // Packs W slice by slice, so that no f32 copy of the whole ever exists.
  // Errors: kInvalidArgument for sizes < 1 or so large that their product overflows, what
  // `read_rows` returns, kResourceExhausted, kUnsupported for kBf16 on a CPU without AVX-512 and
  // for kInt8.
  static Result<std::unique_ptr<PackedMatrix>> Pack(int64_t num_outputs, int64_t num_inputs,
                                                    ComputeType type, const ReadRows& read_rows,
                                                    ThreadPool* pool);
  ~PackedMatrix();
  PackedMatrix(const PackedMatrix&) = delete;
  PackedMatrix& operator=(const PackedMatrix&) = delete;

  int64_t num_outputs() const;
  int64_t num_inputs() const;
  ComputeType type() const;
  // Memory held by the packed weights.
  int64_t num_bytes() const;

  struct State;
  const State& state() const { return *state_; }

 private:
  explicit PackedMatrix(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// One of x and x_bf16 is set. x_bf16 holds bf16 bits (round to nearest even) and needs kBf16; with
// x and kBf16 the rows are rounded inside.
struct MatMulParams {
  const float* x = nullptr;          // [num_rows, num_inputs], 64-byte aligned
  const uint16_t* x_bf16 = nullptr;  // the same shape
  const float* bias = nullptr;       // [num_outputs], may be null
  float* y = nullptr;                // [num_rows, num_outputs], 64-byte aligned
  int64_t num_rows = 0;              // 0 does nothing
};

// What is asked of every matrix to pack, and of every product with one. Errors: kInvalidArgument.
Status CheckMatrixToPack(int64_t num_outputs, int64_t num_inputs, const ThreadPool* pool);
Status CheckMatMul(const MatMulParams& params, const ThreadPool* pool);

// Two runs with the same numbers of rows and threads give the same bits. A NaN or an infinity in x
// stays in its row.
// Errors: kInvalidArgument, kResourceExhausted; kInternal if oneDNN refuses.
Status MatMul(const PackedMatrix& matrix, const MatMulParams& params, ThreadPool* pool);

}  // namespace intarsia::kernels
