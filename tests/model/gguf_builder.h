// GgufBuilder: writes small GGUF files for tests, valid or deliberately not.
//
// Entries are written as they are given, nothing is checked, so a test can repeat a key, lie about
// a count or leave data out. A tiny model is a chain of Add calls and Build:
//   GgufBuilder().AddString("general.architecture", "llama").AddUint32("llama.block_count", 2)
//       .AddRandom("output_norm.weight", kernels::BlockType::kF32, {64}, 1.0F, /*seed=*/1).Build()
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "kernels/quantized_block.h"
#include "model/gguf_value.h"
#include "tests/kernels/random_blocks.h"

namespace intarsia::model {

// The number that a GGUF file has for a type.
inline uint32_t GgufTensorTypeOf(kernels::BlockType type) {
  switch (type) {
    case kernels::BlockType::kF32:
      return 0;
    case kernels::BlockType::kF16:
      return 1;
    case kernels::BlockType::kBf16:
      return 30;
    case kernels::BlockType::kQ4_0:
      return 2;
    case kernels::BlockType::kQ4_1:
      return 3;
    case kernels::BlockType::kQ5_0:
      return 6;
    case kernels::BlockType::kQ5_1:
      return 7;
    case kernels::BlockType::kQ8_0:
      return 8;
    case kernels::BlockType::kQ4_K:
      return 12;
    case kernels::BlockType::kQ5_K:
      return 13;
    case kernels::BlockType::kQ6_K:
      return 14;
  }
  return ~0U;
}

class GgufBuilder {
 public:
  static constexpr int64_t kDefaultAlignment = 32;

  // A key with a number, written as `type` says; the type must hold numbers or booleans.
  GgufBuilder& AddNumber(std::string_view key, GgufValueType type, double value) {
    BeginEntry(key, type);
    WriteNumber(type, value);
    return *this;
  }
  GgufBuilder& AddUint32(std::string_view key, uint32_t value) {
    return AddNumber(key, GgufValueType::kUint32, value);
  }
  GgufBuilder& AddFloat32(std::string_view key, float value) {
    return AddNumber(key, GgufValueType::kFloat32, static_cast<double>(value));
  }
  GgufBuilder& AddString(std::string_view key, std::string_view value) {
    BeginEntry(key, GgufValueType::kString);
    metadata_.WriteString(value);
    return *this;
  }
  GgufBuilder& AddStrings(std::string_view key, const std::vector<std::string>& values) {
    BeginArray(key, GgufValueType::kString, values.size());
    for (const std::string& value : values) metadata_.WriteString(value);
    return *this;
  }
  GgufBuilder& AddNumbers(std::string_view key, GgufValueType type,
                          const std::vector<double>& values) {
    BeginArray(key, type, values.size());
    for (const double value : values) WriteNumber(type, value);
    return *this;
  }
  // An entry whose value is `bytes` as they are: for types and nestings that are not allowed.
  GgufBuilder& AddRaw(std::string_view key, uint32_t type, std::string_view bytes) {
    BeginEntry(key, static_cast<GgufValueType>(type));
    metadata_.WriteBytes(bytes);
    return *this;
  }

  // A tensor of `shape`, innermost first, with the given blocks.
  GgufBuilder& AddTensor(std::string_view name, kernels::BlockType type,
                         const std::vector<int64_t>& shape, std::string_view blocks) {
    PadData();
    AddTensorRaw(name, GgufTensorTypeOf(type), shape, data_.size());
    data_.WriteBytes(blocks);
    return *this;
  }
  GgufBuilder& AddF32(std::string_view name, const std::vector<int64_t>& shape,
                      const std::vector<float>& weights) {
    return AddTensor(name, kernels::BlockType::kF32, shape,
                     {reinterpret_cast<const char*>(weights.data()), weights.size() * 4});
  }
  // Weights of the order of `magnitude`, determined by `seed`.
  // REQUIRES: shape[0] is a multiple of the type's block size.
  GgufBuilder& AddRandom(std::string_view name, kernels::BlockType type,
                         const std::vector<int64_t>& shape, float magnitude, uint64_t seed) {
    int64_t num_elements = 1;
    for (const int64_t size : shape) num_elements *= size;
    return AddTensor(name, type, shape, kernels::RandomBlocks(type, num_elements, magnitude, seed));
  }
  // Only the description of a tensor, with any type number and offset.
  GgufBuilder& AddTensorRaw(std::string_view name, uint32_t type, const std::vector<int64_t>& shape,
                            int64_t offset) {
    tensors_.WriteString(name);
    tensors_.Write(static_cast<uint32_t>(shape.size()));
    for (const int64_t size : shape) tensors_.Write(size);
    tensors_.Write(type);
    tensors_.Write(offset);
    ++num_tensors_;
    return *this;
  }

  // Replace what the header says.
  GgufBuilder& set_version(uint32_t version) { return version_ = version, *this; }
  GgufBuilder& set_num_tensors(int64_t count) { return num_tensors_ = count, *this; }
  GgufBuilder& set_num_entries(int64_t count) { return num_entries_ = count, *this; }
  // The alignment of the data; a file that has another than 32 also needs "general.alignment".
  GgufBuilder& set_alignment(int64_t alignment) { return alignment_ = alignment, *this; }

  std::string Build() const {
    ByteWriter file;
    file.WriteBytes("GGUF");
    file.Write(version_);
    file.Write(num_tensors_);
    file.Write(num_entries_);
    file.WriteBytes(metadata_.bytes());
    file.WriteBytes(tensors_.bytes());
    if (data_.size() > 0) {
      while (file.size() % alignment_ != 0) file.Write(uint8_t{0});
      file.WriteBytes(data_.bytes());
    }
    return std::move(file).TakeBytes();
  }

 private:
  void BeginEntry(std::string_view key, GgufValueType type) {
    metadata_.WriteString(key);
    metadata_.Write(static_cast<uint32_t>(type));
    ++num_entries_;
  }
  void BeginArray(std::string_view key, GgufValueType type, size_t size) {
    BeginEntry(key, GgufValueType::kArray);
    metadata_.Write(static_cast<uint32_t>(type));
    metadata_.Write(uint64_t{size});
  }
  void PadData() {
    while (data_.size() % alignment_ != 0) data_.Write(uint8_t{0});
  }
  void WriteNumber(GgufValueType type, double value) {
    switch (type) {
      case GgufValueType::kUint8:
      case GgufValueType::kBool:
        return metadata_.Write(static_cast<uint8_t>(value));
      case GgufValueType::kInt8:
        return metadata_.Write(static_cast<int8_t>(value));
      case GgufValueType::kUint16:
        return metadata_.Write(static_cast<uint16_t>(value));
      case GgufValueType::kInt16:
        return metadata_.Write(static_cast<int16_t>(value));
      case GgufValueType::kUint32:
        return metadata_.Write(static_cast<uint32_t>(value));
      case GgufValueType::kInt32:
        return metadata_.Write(static_cast<int32_t>(value));
      case GgufValueType::kUint64:
        return metadata_.Write(static_cast<uint64_t>(value));
      case GgufValueType::kInt64:
        return metadata_.Write(static_cast<int64_t>(value));
      case GgufValueType::kFloat32:
        return metadata_.Write(static_cast<float>(value));
      case GgufValueType::kFloat64:
        return metadata_.Write(value);
      case GgufValueType::kString:
      case GgufValueType::kArray:
        break;
    }
    INTARSIA_CHECK(false && "not a number");
  }

  uint32_t version_ = 3;
  int64_t num_tensors_ = 0;
  int64_t num_entries_ = 0;
  int64_t alignment_ = kDefaultAlignment;
  ByteWriter metadata_;
  ByteWriter tensors_;
  ByteWriter data_;
};

}  // namespace intarsia::model
