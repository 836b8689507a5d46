#include "model/linear.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "kernels/quantized_gemv.h"

namespace intarsia::model {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

// Reads rows [begin, end) of the tensors stacked on top of each other.
Status ReadStackedRows(const std::vector<const GgufTensor*>& tensors, int64_t begin, int64_t end,
                       float* target) {
  int64_t first = 0;  // of the tensor's rows, in the stack
  for (const GgufTensor* tensor : tensors) {
    const int64_t num_inputs = tensor->shape[0];
    const int64_t last = first + tensor->shape[1];
    const int64_t from = std::max(begin, first);
    const int64_t to = std::min(end, last);
    if (from < to) {
      const int64_t row_bytes = kernels::RowBytes(tensor->type, num_inputs);
      INTARSIA_RETURN_IF_ERROR(
          kernels::Dequantize(tensor->type, tensor->bytes.data() + (from - first) * row_bytes,
                              (to - from) * num_inputs, target + (from - begin) * num_inputs));
    }
    first = last;
  }
  return Status::Ok();
}

}  // namespace

Result<const GgufTensor*> RequireTensor(const GgufFile& file, const std::string& name,
                                        const std::vector<int64_t>& shape) {
  const auto found = file.GetTensor(name);
  if (!found.ok()) {
    return Status(StatusCode::kCorruption, "model file lacks a tensor: name=" + name);
  }
  if ((*found)->shape != shape) {
    return Status(StatusCode::kCorruption,
                  "model file has a tensor of another shape: name=" + name +
                      " want=" + ShapeText(shape) + " got=" + ShapeText((*found)->shape));
  }
  return *found;
}

Result<std::vector<float>> RequireVector(const GgufFile& file, const std::string& name,
                                         int64_t size) {
  INTARSIA_ASSIGN_OR_RETURN(const GgufTensor* tensor, RequireTensor(file, name, {size}));
  std::vector<float> values(static_cast<size_t>(size));
  INTARSIA_RETURN_IF_ERROR(
      kernels::Dequantize(tensor->type, tensor->bytes.data(), size, values.data()));
  return values;
}

Result<std::unique_ptr<Linear>> Linear::Load(const GgufFile& file,
                                             const std::vector<LinearPart>& parts,
                                             int64_t num_inputs, kernels::ComputeType compute,
                                             ThreadPool* pool) {
  std::unique_ptr<Linear> linear(new Linear());
  linear->num_inputs_ = num_inputs;
  for (const LinearPart& part : parts) {
    INTARSIA_ASSIGN_OR_RETURN(
        const GgufTensor* tensor,
        RequireTensor(file, part.name + ".weight", {num_inputs, part.num_outputs}));
    linear->tensors_.push_back(tensor);
    const auto num_outputs = static_cast<size_t>(linear->num_outputs_ + part.num_outputs);
    if (file.GetTensor(part.name + ".bias").ok()) {
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> bias,
                                RequireVector(file, part.name + ".bias", part.num_outputs));
      linear->bias_.resize(static_cast<size_t>(linear->num_outputs_));
      linear->bias_.insert(linear->bias_.end(), bias.begin(), bias.end());
    }
    if (!linear->bias_.empty()) linear->bias_.resize(num_outputs);
    linear->num_outputs_ += part.num_outputs;
  }
  const kernels::ReadRows read_rows = [&](int64_t begin, int64_t end, float* target) {
    return ReadStackedRows(linear->tensors_, begin, end, target);
  };
  if (compute == kernels::ComputeType::kInt8) {
    INTARSIA_ASSIGN_OR_RETURN(
        linear->int8_,
        kernels::Int8Matrix::Pack(linear->num_outputs_, num_inputs, read_rows, pool));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(
        linear->packed_,
        kernels::PackedMatrix::Pack(linear->num_outputs_, num_inputs, compute, read_rows, pool));
  }
  return linear;
}

bool Linear::WantsF32(int64_t num_rows) const {
  return num_rows == 1 || (packed_ != nullptr && packed_->type() == kernels::ComputeType::kF32);
}

Status Linear::Apply(const kernels::MatMulParams& product, ThreadPool* pool) const {
  if (product.num_rows != 1) {
    kernels::MatMulParams params = product;
    params.bias = bias_.empty() ? nullptr : bias_.data();
    return int8_ != nullptr ? kernels::MatMul(*int8_, params, pool)
                            : kernels::MatMul(*packed_, params, pool);
  }
  INTARSIA_CHECK(product.x != nullptr);
  int64_t offset = 0;
  for (const GgufTensor* tensor : tensors_) {
    INTARSIA_RETURN_IF_ERROR(
        kernels::QuantizedGemv({.type = tensor->type,
                                .weights = tensor->bytes.data(),
                                .num_outputs = tensor->shape[1],
                                .num_inputs = num_inputs_,
                                .x = product.x,
                                .bias = bias_.empty() ? nullptr : bias_.data() + offset,
                                .y = product.y + offset,
                                .num_rows = 1},
                               pool));
    offset += tensor->shape[1];
  }
  return Status::Ok();
}

}  // namespace intarsia::model
