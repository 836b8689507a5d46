// SafetensorsFile: a weight file in safetensors form, mapped and checked.
//
// The file is untrusted: the header is parsed without exceptions, and every range of bytes is
// checked against shape, type, file size and the other tensors when the file is opened. Format:
// https://github.com/huggingface/safetensors, a u64 header length, a JSON header, the data.
//
// Thread safety: immutable after Open; concurrent calls are safe.
// Lifetime: every view that is returned lives as long as the SafetensorsFile.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "kernels/quantized_block.h"

namespace intarsia::model {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // As the file has it: "F32", "I64", ...
  // Outermost first, as the file has it: {num_outputs, num_inputs} for a matrix. Empty: a scalar.
  std::vector<int64_t> shape;
  std::string_view bytes;  // Exactly the size that dtype and shape ask for.

  int64_t num_elements() const;
};

class SafetensorsFile {
 public:
  // Errors: kNotFound, kIo; kCorruption with the offset or the tensor for anything malformed;
  // kUnsupported for a dtype whose size we do not know.
  // Integers and the like are fine until they are read as f32.
  static Result<std::unique_ptr<SafetensorsFile>> Open(const std::string& path,
                                                       FileSystem* file_system);
  // The same from memory, which must outlive the result. For tests and fuzzing.
  static Result<std::unique_ptr<SafetensorsFile>> Parse(std::string_view bytes,
                                                        std::string_view name);

  bool Has(std::string_view name) const;
  // Errors: kNotFound.
  Result<const SafetensorsTensor*> GetTensor(std::string_view name) const;
  // The tensor as f32, in row-major order; its shape must be `shape`, whose size names the rank.
  // Errors: kNotFound; kUnsupported for a dtype other than F32, F16 and BF16; kInvalidArgument for
  // another shape.
  Result<std::vector<float>> ReadF32(std::string_view name, std::span<const int64_t> shape) const;

  // Sorted by name.
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  // The whole file, for its digest.
  std::string_view bytes() const { return bytes_; }

 private:
  SafetensorsFile(std::string_view bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  std::unique_ptr<MappedFile> mapping_;  // Null when parsed from memory.
  std::string_view bytes_;
  std::string name_;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace intarsia::model
