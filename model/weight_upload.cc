#include "model/weight_upload.h"

#include <algorithm>
#include <utility>

#include "base/first_error.h"
#include "kernels/convert.h"
#include "kernels/quantized_block.h"

namespace intarsia::model {
namespace {

constexpr int64_t kStageBytes = int64_t{32} << 20;
constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kRowsPerTask = 16;

}  // namespace

Result<void*> AllocateWeights(int64_t num_bytes, CudaWeights* target) {
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceBuffer buffer,
                            kernels::DeviceBuffer::Allocate(num_bytes, target->stream.get()));
  target->num_bytes += num_bytes;
  target->memory.push_back(std::move(buffer));
  return target->memory.back().data();
}

Result<WeightUpload> WeightUpload::Create(const GgufFile& file, ThreadPool* pool,
                                          CudaWeights* target) {
  const auto make_stage = []() -> Result<Stage> {
    INTARSIA_ASSIGN_OR_RETURN(kernels::PinnedBuffer memory,
                              kernels::PinnedBuffer::Allocate(kStageBytes));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceEvent copied,
                              kernels::DeviceEvent::Create(kernels::EventTiming::kOff));
    return Stage{std::move(memory), std::move(copied)};
  };
  INTARSIA_ASSIGN_OR_RETURN(Stage first, make_stage());
  INTARSIA_ASSIGN_OR_RETURN(Stage second, make_stage());
  return WeightUpload(file, pool, target, {std::move(first), std::move(second)});
}

Result<const uint16_t*> WeightUpload::Matrix(const std::vector<LinearPart>& parts,
                                             int64_t num_inputs, int64_t num_rows_min) {
  std::vector<const GgufTensor*> tensors;
  int64_t num_rows = 0;
  for (const LinearPart& part : parts) {
    INTARSIA_ASSIGN_OR_RETURN(
        const GgufTensor* tensor,
        RequireTensor(*file_, part.name + ".weight", {num_inputs, part.num_outputs}));
    tensors.push_back(tensor);
    num_rows += part.num_outputs;
  }
  const int64_t num_bytes = std::max(num_rows, num_rows_min) * num_inputs * kBf16Bytes;
  INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(num_bytes, target_));
  auto* rows = static_cast<uint16_t*>(memory);
  const int64_t used_bytes = num_rows * num_inputs * kBf16Bytes;
  INTARSIA_RETURN_IF_ERROR(kernels::FillDevice(rows + num_rows * num_inputs, 0,
                                               num_bytes - used_bytes, target_->stream.get()));
  for (const GgufTensor* tensor : tensors) {
    INTARSIA_RETURN_IF_ERROR(CopyRows(*tensor, rows));
    rows += tensor->num_elements();
  }
  return static_cast<const uint16_t*>(memory);
}

Status WeightUpload::CopyRows(const GgufTensor& tensor, uint16_t* target) {
  const int64_t num_inputs = tensor.shape[0];
  const int64_t num_rows = tensor.shape[1];
  const int64_t row_bytes = kernels::RowBytes(tensor.type, num_inputs);
  const int64_t rows_per_stage = std::max<int64_t>(1, kStageBytes / (num_inputs * kBf16Bytes));
  if (num_inputs * kBf16Bytes > kStageBytes) {
    return Status(StatusCode::kUnsupported, "weights: a row is too long: name=" + tensor.name +
                                                " inputs=" + std::to_string(num_inputs));
  }
  FirstError error(pool_->num_threads());
  std::vector<std::vector<float>> scratch(static_cast<size_t>(pool_->num_threads()));
  for (auto& row : scratch) row.resize(static_cast<size_t>(num_inputs));
  for (int64_t begin = 0; begin < num_rows; begin += rows_per_stage) {
    const int64_t end = std::min(num_rows, begin + rows_per_stage);
    Stage& stage = stages_[next_stage_++ % stages_.size()];
    INTARSIA_RETURN_IF_ERROR(stage.copied.Wait());
    auto* const staged = stage.memory.as<uint16_t>();
    pool_->ParallelFor(
        (end - begin + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int worker) {
          float* const row = scratch[static_cast<size_t>(worker)].data();
          const int64_t first = begin + task * kRowsPerTask;
          for (int64_t i = first; i < std::min(end, first + kRowsPerTask); ++i) {
            error.Set(worker, kernels::Dequantize(tensor.type, tensor.bytes.data() + i * row_bytes,
                                                  num_inputs, row));
            kernels::F32ToBf16(row, num_inputs, staged + (i - begin) * num_inputs);
          }
        });
    INTARSIA_RETURN_IF_ERROR(error.Get());
    INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(target + begin * num_inputs, staged,
                                                   (end - begin) * num_inputs * kBf16Bytes,
                                                   target_->stream.get()));
    INTARSIA_RETURN_IF_ERROR(stage.copied.Record(target_->stream.get()));
  }
  return Status::Ok();
}

Result<const uint16_t*> WeightUpload::Bias(const std::vector<LinearPart>& parts) {
  std::vector<float> bias;
  bool has_any = false;
  for (const LinearPart& part : parts) {
    const size_t begin = bias.size();
    if (file_->GetTensor(part.name + ".bias").ok()) {
      has_any = true;
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> values,
                                RequireVector(*file_, part.name + ".bias", part.num_outputs));
      bias.insert(bias.end(), values.begin(), values.end());
    }
    bias.resize(begin + static_cast<size_t>(part.num_outputs));
  }
  if (!has_any) return static_cast<const uint16_t*>(nullptr);
  std::vector<uint16_t> bits(bias.size());
  kernels::F32ToBf16(bias.data(), static_cast<int64_t>(bias.size()), bits.data());
  const auto num_bytes = static_cast<int64_t>(bits.size()) * kBf16Bytes;
  INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(num_bytes, target_));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToDevice(memory, bits.data(), num_bytes, target_->stream.get()));
  return static_cast<const uint16_t*>(memory);
}

Result<const float*> WeightUpload::Vector(const std::string& name, int64_t size) {
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> values, RequireVector(*file_, name, size));
  const int64_t num_bytes = size * static_cast<int64_t>(sizeof(float));
  INTARSIA_ASSIGN_OR_RETURN(void* memory, AllocateWeights(num_bytes, target_));
  INTARSIA_RETURN_IF_ERROR(
      kernels::CopyToDevice(memory, values.data(), num_bytes, target_->stream.get()));
  return static_cast<const float*>(memory);
}

Result<const float*> WeightUpload::OptionalVector(const std::string& name, int64_t size) {
  if (!file_->GetTensor(name).ok()) return static_cast<const float*>(nullptr);
  return Vector(name, size);
}

Status WeightUpload::Finish() { return kernels::WaitFor(target_->stream.get()); }

}  // namespace intarsia::model
