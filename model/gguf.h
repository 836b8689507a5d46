// GgufFile: a model file in GGUF form, mapped and checked.
//
// The file is untrusted: every count, length, offset and product is checked when it is opened, so
// that the accessors below cannot read outside the mapping. Format: version 2 and 3, little endian,
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// Thread safety: immutable after Open; concurrent calls are safe.
// Lifetime: every view that is returned lives as long as the GgufFile.
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

struct GgufTensor {
  std::string name;
  kernels::BlockType type = kernels::BlockType::kF32;
  // Innermost first, as the file has it: {num_inputs, num_outputs} for a matrix. 1 to 4 entries.
  std::vector<int64_t> shape;
  std::string_view bytes;  // Exactly the size that type and shape ask for.

  int64_t num_elements() const;
};

class GgufFile {
 public:
  struct State;
  explicit GgufFile(std::unique_ptr<const State> state);

  // Errors: kNotFound, kIo; kCorruption with the offset for anything malformed; kUnsupported for a
  // version or tensor type that we do not read.
  static Result<std::unique_ptr<GgufFile>> Open(const std::string& path, FileSystem* file_system);
  // The same from memory, which must outlive the result. For tests and fuzzing.
  static Result<std::unique_ptr<GgufFile>> Parse(std::string_view bytes, std::string_view name);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  // Metadata by key. Integers of every width and booleans read as int64, floats as double.
  // Errors: kNotFound if the key is absent; kInvalidArgument if it has another type.
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key) const;
  Result<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  Result<std::vector<int64_t>> GetInts(std::string_view key) const;
  Result<std::vector<double>> GetFloats(std::string_view key) const;
  bool Has(std::string_view key) const;

  // Errors: kNotFound.
  Result<const GgufTensor*> GetTensor(std::string_view name) const;
  std::span<const GgufTensor> tensors() const;
  // The whole file, for its digest.
  std::string_view bytes() const;
  // OK if the file is still as it was opened: whoever keeps one asks before reading weights, which
  // stay in the file. Errors: those of MappedFile::CheckUnchanged; none from memory.
  Status CheckUnchanged() const;

 private:
  const std::unique_ptr<const State> state_;
};

}  // namespace intarsia::model
