// WeightUpload: weights of a model file on their way to a device: dequantised by the pool's
// threads, rounded to bf16 into pinned memory and copied while the next piece is dequantised.
// Internal to model/.
//
// Thread safety: owned by one thread.
// Lifetime: the file, the pool and the target must outlive it, and Finish must be called before the
// weights are used.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/device.h"
#include "model/cuda_weights.h"
#include "model/gguf.h"
#include "model/linear.h"

namespace intarsia::model {

class WeightUpload {
 public:
  static Result<WeightUpload> Create(const GgufFile& file, ThreadPool* pool, CudaWeights* target);

  // The matrices `parts` below each other, bf16 [sum of outputs, num_inputs], followed by rows of
  // zeros up to `num_rows_min`.
  // Errors: kCorruption with the tensor's name if one is missing or has another shape;
  // kResourceExhausted.
  Result<const uint16_t*> Matrix(const std::vector<LinearPart>& parts, int64_t num_inputs,
                                 int64_t num_rows_min);
  // Their biases in bf16, zeros for a part without one; null if no part has one.
  Result<const uint16_t*> Bias(const std::vector<LinearPart>& parts);
  // A vector in f32. Errors: as Matrix.
  Result<const float*> Vector(const std::string& name, int64_t size);
  // The same, or null if the file has no such tensor.
  Result<const float*> OptionalVector(const std::string& name, int64_t size);

  // Waits for the copies. Errors: kInternal.
  Status Finish();

 private:
  // Pinned memory and the end of the copy that last read it.
  struct Stage {
    kernels::PinnedBuffer memory;
    kernels::DeviceEvent copied;
  };

  WeightUpload(const GgufFile& file, ThreadPool* pool, CudaWeights* target,
               std::array<Stage, 2> stages)
      : file_(&file), pool_(pool), target_(target), stages_(std::move(stages)) {}

  Status CopyRows(const GgufTensor& tensor, uint16_t* target);

  const GgufFile* file_;
  ThreadPool* pool_;
  CudaWeights* target_;
  std::array<Stage, 2> stages_;
  size_t next_stage_ = 0;
};

// Memory of `target` on the device.
Result<void*> AllocateWeights(int64_t num_bytes, CudaWeights* target);

}  // namespace intarsia::model
