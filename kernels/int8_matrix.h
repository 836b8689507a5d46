// Int8Matrix: a weight matrix in 8 bits for products with many rows, and the product.
//
// y = x W^T + bias, with W [num_outputs, num_inputs]. Both sides are quantised symmetrically in
// groups of 64 inputs: a group of a row, of x as of W, has one step, absmax / 127, so an outlier
// costs the precision of its own group alone. Products within a group are exact integers
// (AVX512_VNNI, 4 multiplications a lane and instruction); groups are added up in f32.
//
// Thread safety: immutable after Pack; MatMul may be called concurrently.
#pragma once

#include <cstdint>
#include <memory>

#include "base/aligned_array.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/packed_matrix.h"

namespace intarsia::kernels {

// Inputs that share a step; the last group of a row may have fewer.
inline constexpr int64_t kInt8GroupInputs = 64;
// Outputs whose codes lie together.
inline constexpr int64_t kInt8PanelOutputs = 64;

// Whether this CPU multiplies 8-bit integers faster than bf16: AVX512_VNNI, and no AMX, whose bf16
// products are faster still.
bool HasFastInt8();

class Int8Matrix {
 public:
  // Packs W slice by slice, so that no f32 copy of the whole ever exists. Runs on any CPU.
  // Errors: kInvalidArgument for sizes < 1 or above 2^28, what `read_rows` returns,
  // kResourceExhausted.
  static Result<std::unique_ptr<Int8Matrix>> Pack(int64_t num_outputs, int64_t num_inputs,
                                                  const ReadRows& read_rows, ThreadPool* pool);

  int64_t num_outputs() const { return num_outputs_; }
  int64_t num_inputs() const { return num_inputs_; }
  // Bytes of a row of codes: num_inputs, rounded up to 4.
  int64_t row_bytes() const { return (num_inputs_ + 3) / 4 * 4; }
  int64_t num_groups() const { return (num_inputs_ + kInt8GroupInputs - 1) / kInt8GroupInputs; }
  int64_t num_panels() const { return (num_outputs_ + kInt8PanelOutputs - 1) / kInt8PanelOutputs; }
  // Memory held by the packed weights.
  int64_t num_bytes() const {
    return codes_.num_bytes() + steps_.num_bytes() + offsets_.num_bytes();
  }

  // [row_bytes / 4, kInt8PanelOutputs, 4] of a panel; what is padding is 0.
  const int8_t* codes(int64_t panel) const {
    return codes_.data() + panel * row_bytes() * kInt8PanelOutputs;
  }
  // [num_groups, kInt8PanelOutputs]: steps, and -128 times the sum of a group's codes, because the
  // codes of x carry 128 more than they mean.
  const float* steps(int64_t panel) const {
    return steps_.data() + panel * num_groups() * kInt8PanelOutputs;
  }
  const int32_t* offsets(int64_t panel) const {
    return offsets_.data() + panel * num_groups() * kInt8PanelOutputs;
  }

 private:
  Int8Matrix(int64_t num_outputs, int64_t num_inputs)
      : num_outputs_(num_outputs), num_inputs_(num_inputs) {}
  Status PackPanel(int64_t panel, const ReadRows& read_rows);

  // Immutable after Pack.
  const int64_t num_outputs_;
  const int64_t num_inputs_;
  AlignedArray<int8_t> codes_;
  AlignedArray<float> steps_;
  AlignedArray<int32_t> offsets_;
};

// `params` as for PackedMatrix; x_bf16 is as good as x. The bits of a row of y depend on its row of
// x alone. A row of x that holds a NaN or an infinity gives a row of NaN.
// Errors: kInvalidArgument, kResourceExhausted.
Status MatMul(const Int8Matrix& matrix, const MatMulParams& params, ThreadPool* pool);

// The definition, from the weights as they are: codes as described, everything else in double.
struct Int8ProductReferenceParams {
  const float* weights = nullptr;  // [num_outputs, num_inputs]
  const float* x = nullptr;        // [num_rows, num_inputs]
  const float* bias = nullptr;     // [num_outputs], may be null
  float* y = nullptr;              // [num_rows, num_outputs]
  int64_t num_rows = 0;
  int64_t num_outputs = 0;
  int64_t num_inputs = 0;
};
void Int8ProductReference(const Int8ProductReferenceParams& params);

}  // namespace intarsia::kernels
