// Linear: one or several weight matrices of a model file with the same input, as one product.
//
// Queries, keys and values are one product, gate and up another. Many rows go through a packed
// matrix; one row, which is a decoding step, reads the file's own blocks.
//
// Thread safety: immutable after Load; concurrent calls are safe.
// Lifetime: the GgufFile must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/aligned_array.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/int8_matrix.h"
#include "kernels/packed_matrix.h"
#include "model/gguf.h"

namespace intarsia::model {

// How many outputs each named tensor must have.
struct LinearPart {
  std::string name;  // "<name>.weight", and "<name>.bias" if the file has one
  int64_t num_outputs = 0;
};

class Linear {
 public:
  // Outputs follow each other in the order of `parts`.
  // Errors: kCorruption with the tensor's name if one is missing or has another shape.
  static Result<std::unique_ptr<Linear>> Load(const GgufFile& file,
                                              const std::vector<LinearPart>& parts,
                                              int64_t num_inputs, kernels::ComputeType compute,
                                              ThreadPool* pool);

  int64_t num_inputs() const { return num_inputs_; }
  int64_t num_outputs() const { return num_outputs_; }
  int64_t packed_bytes() const {
    return int8_ != nullptr ? int8_->num_bytes() : packed_->num_bytes();
  }

  // y = x W^T + bias for x [num_rows, num_inputs], y [num_rows, num_outputs], both aligned to 64
  // bytes. Exactly one of `x` and `x_bf16` is set; for a single row it must be `x`.
  Status Apply(const kernels::MatMulParams& product, ThreadPool* pool) const;

  // Whether Apply wants f32 rows for this number of rows.
  bool WantsF32(int64_t num_rows) const;

 private:
  Linear() = default;

  // Immutable after Load.
  std::vector<const GgufTensor*> tensors_;
  std::vector<float> bias_;  // [num_outputs]; empty if no part has one
  // One of the two.
  std::unique_ptr<kernels::PackedMatrix> packed_;
  std::unique_ptr<kernels::Int8Matrix> int8_;
  int64_t num_inputs_ = 0;
  int64_t num_outputs_ = 0;
};

// The tensor `name`, checked to have exactly `shape` (innermost first).
// Errors: kCorruption with the name and both shapes.
Result<const GgufTensor*> RequireTensor(const GgufFile& file, const std::string& name,
                                        const std::vector<int64_t>& shape);

// The values of a one-dimensional tensor. Errors: as RequireTensor.
Result<std::vector<float>> RequireVector(const GgufFile& file, const std::string& name,
                                         int64_t size);

}  // namespace intarsia::model
