#include "model/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "model/gguf_value.h"

namespace intarsia::model {
namespace {

using kernels::BlockType;

constexpr uint32_t kVersionMin = 2;
constexpr uint32_t kVersionMax = 3;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kAlignmentMax = int64_t{1} << 30;
constexpr uint32_t kNumDimensionsMax = 4;
constexpr int64_t kNameBytesMax = 65'535;  // of a key or a tensor, as the format has it
// The fewest bytes that an entry of the metadata and the description of a tensor can take; a count
// above what they allow is refused before anything is reserved for it.
constexpr int64_t kEntryBytesMin = 8 + 4 + 1;
constexpr int64_t kTensorBytesMin = 8 + 4 + 8 + 4 + 8;

// The type that the file calls `number`, if we read it.
std::optional<BlockType> BlockTypeOf(uint32_t number) {
  constexpr std::pair<uint32_t, BlockType> kNumbers[] = {
      {0, BlockType::kF32},   {1, BlockType::kF16},   {2, BlockType::kQ4_0},
      {3, BlockType::kQ4_1},  {6, BlockType::kQ5_0},  {7, BlockType::kQ5_1},
      {8, BlockType::kQ8_0},  {12, BlockType::kQ4_K}, {13, BlockType::kQ5_K},
      {14, BlockType::kQ6_K}, {30, BlockType::kBf16},
  };
  for (const auto& [candidate, type] : kNumbers) {
    if (candidate == number) return type;
  }
  return std::nullopt;
}

}  // namespace

// The keys are views of `bytes`.
struct GgufFile::State {
  std::unique_ptr<MappedFile> mapping;  // Null when parsed from memory.
  std::string_view bytes;
  std::string name;
  std::map<std::string_view, GgufValue> metadata;
  std::vector<GgufTensor> tensors;
  std::map<std::string_view, int64_t> tensor_indices;
};

namespace {

using State = GgufFile::State;

// Reads `bytes` from front to back into the other members.
class Parser {
 public:
  explicit Parser(State* file) : file_(file), reader_(file->bytes, file->name) {}

  Status Run() {
    INTARSIA_RETURN_IF_ERROR(ReadHeader());
    for (int64_t i = 0; i < num_entries_; ++i) INTARSIA_RETURN_IF_ERROR(ReadEntry());
    INTARSIA_RETURN_IF_ERROR(ReadAlignment());
    file_->tensors.reserve(static_cast<size_t>(num_tensors_));
    offsets_.reserve(static_cast<size_t>(num_tensors_));
    for (int64_t i = 0; i < num_tensors_; ++i) INTARSIA_RETURN_IF_ERROR(ReadTensor());
    return PlaceTensors();
  }

 private:
  Status Fail(StatusCode code, const std::string& what, int64_t offset) const {
    return Status(code, what + " file=" + file_->name + " offset=" + std::to_string(offset));
  }
  Status Malformed(const std::string& what, int64_t offset) const {
    return Fail(StatusCode::kCorruption, what, offset);
  }
  // What to return when the reader has failed.
  Status EndsTooEarly(const std::string& where) const {
    return Malformed("gguf ends too early or has a bad length: in=" + where, reader_.offset());
  }

  Status ReadHeader();
  Status ReadEntry();
  Status ReadValue(GgufValue* value);
  Status ReadArray(GgufValue* value);
  Status ReadAlignment();
  Status ReadTensor();
  Status ReadShape(GgufTensor* tensor, int64_t* num_elements);
  Status PlaceTensors();

  State* file_;
  ByteReader reader_;
  int64_t num_tensors_ = 0;
  int64_t num_entries_ = 0;
  int64_t alignment_ = kDefaultAlignment;
  std::vector<std::pair<int64_t, int64_t>> offsets_;  // [num_tensors] offset, size; in the data
};

Status Parser::ReadHeader() {
  if (reader_.ReadBytes(4) != "GGUF") {
    return Malformed("not a gguf file: the first four bytes are not \"GGUF\":", 0);
  }
  const auto version = reader_.Read<uint32_t>();
  if (reader_.failed()) return EndsTooEarly("header");
  if (version < kVersionMin || version > kVersionMax) {
    return Fail(StatusCode::kUnsupported,
                "unsupported gguf version or byte order: want=2 or 3, little endian, got=" +
                    std::to_string(version),
                4);
  }
  const auto num_tensors = reader_.Read<uint64_t>();
  const auto num_entries = reader_.Read<uint64_t>();
  if (reader_.failed()) return EndsTooEarly("header");
  const auto remaining = static_cast<uint64_t>(reader_.remaining());
  if (num_tensors > remaining / kTensorBytesMin || num_entries > remaining / kEntryBytesMin) {
    return Malformed("gguf counts exceed the file: num_tensors=" + std::to_string(num_tensors) +
                         " num_entries=" + std::to_string(num_entries),
                     8);
  }
  num_tensors_ = static_cast<int64_t>(num_tensors);
  num_entries_ = static_cast<int64_t>(num_entries);
  return Status::Ok();
}

Status Parser::ReadEntry() {
  const int64_t begin = reader_.offset();
  const std::string_view key = reader_.ReadString();
  if (reader_.failed()) return EndsTooEarly("metadata key");
  if (key.empty() || static_cast<int64_t>(key.size()) > kNameBytesMax) {
    return Malformed("bad length of a gguf key: length=" + std::to_string(key.size()), begin);
  }
  GgufValue value;
  INTARSIA_RETURN_IF_ERROR(ReadValue(&value));
  if (!file_->metadata.emplace(key, value).second) {
    return Malformed("duplicate gguf key: key=" + std::string(key), begin);
  }
  return Status::Ok();
}

Status Parser::ReadValue(GgufValue* value) {
  const int64_t begin = reader_.offset();
  value->type = static_cast<GgufValueType>(reader_.Read<uint32_t>());
  if (reader_.failed()) return EndsTooEarly("metadata type");
  if (value->type == GgufValueType::kArray) return ReadArray(value);
  if (value->type == GgufValueType::kString) {
    value->bytes = reader_.ReadString();
  } else if (const int64_t width = GgufWidth(value->type); width > 0) {
    value->bytes = reader_.ReadBytes(width);
  } else {
    return Malformed(
        "unknown gguf value type: type=" + std::to_string(static_cast<uint32_t>(value->type)),
        begin);
  }
  if (reader_.failed()) return EndsTooEarly("metadata value");
  return Status::Ok();
}

Status Parser::ReadArray(GgufValue* value) {
  const int64_t begin = reader_.offset();
  value->is_array = true;
  value->type = static_cast<GgufValueType>(reader_.Read<uint32_t>());
  const auto count = reader_.Read<uint64_t>();
  if (reader_.failed()) return EndsTooEarly("array header");
  if (value->type == GgufValueType::kArray) {
    return Malformed("a gguf array of arrays is not supported:", begin);
  }
  const bool is_string = value->type == GgufValueType::kString;
  const int64_t width = is_string ? int64_t{sizeof(uint64_t)} : GgufWidth(value->type);
  if (width == 0) {
    return Malformed(
        "unknown gguf element type: type=" + std::to_string(static_cast<uint32_t>(value->type)),
        begin);
  }
  if (count > static_cast<uint64_t>(reader_.remaining() / width)) {
    return Malformed("gguf array exceeds the file: count=" + std::to_string(count), begin);
  }
  value->count = static_cast<int64_t>(count);
  const int64_t first = reader_.offset();
  if (is_string) {
    for (int64_t i = 0; i < value->count && !reader_.failed(); ++i) reader_.ReadString();
  } else {
    reader_.ReadBytes(value->count * width);
  }
  if (reader_.failed()) return EndsTooEarly("array elements");
  value->bytes = file_->bytes.substr(static_cast<size_t>(first),
                                     static_cast<size_t>(reader_.offset() - first));
  return Status::Ok();
}

Status Parser::ReadAlignment() {
  constexpr std::string_view kKey = "general.alignment";
  const auto found = file_->metadata.find(kKey);
  if (found == file_->metadata.end()) return Status::Ok();
  const GgufValue& value = found->second;
  const auto numbers = !value.is_array && IsGgufInt(value.type) ? GgufInts(value) : std::nullopt;
  alignment_ = numbers.has_value() ? numbers->front() : -1;
  if (alignment_ <= 0 || alignment_ > kAlignmentMax ||
      !std::has_single_bit(static_cast<uint64_t>(alignment_))) {
    return Malformed("general.alignment is not a power of two: got=" + std::to_string(alignment_),
                     reader_.offset());
  }
  return Status::Ok();
}

Status Parser::ReadShape(GgufTensor* tensor, int64_t* num_elements) {
  const int64_t begin = reader_.offset();
  const auto num_dimensions = reader_.Read<uint32_t>();
  if (reader_.failed()) return EndsTooEarly("tensor shape");
  if (num_dimensions == 0 || num_dimensions > kNumDimensionsMax) {
    return Malformed("a gguf tensor has 1 to 4 dimensions: tensor=" + tensor->name +
                         " got=" + std::to_string(num_dimensions),
                     begin);
  }
  *num_elements = 1;
  for (uint32_t i = 0; i < num_dimensions; ++i) {
    const auto size = reader_.Read<int64_t>();
    if (reader_.failed()) return EndsTooEarly("tensor shape");
    if (size <= 0 || __builtin_mul_overflow(*num_elements, size, num_elements)) {
      return Malformed("gguf tensor dimension out of range: tensor=" + tensor->name +
                           " index=" + std::to_string(i) + " size=" + std::to_string(size),
                       begin);
    }
    tensor->shape.push_back(size);
  }
  return Status::Ok();
}

Status Parser::ReadTensor() {
  const int64_t begin = reader_.offset();
  const std::string_view name = reader_.ReadString();
  if (reader_.failed()) return EndsTooEarly("tensor name");
  if (name.empty() || static_cast<int64_t>(name.size()) > kNameBytesMax) {
    return Malformed("bad length of a gguf tensor name: length=" + std::to_string(name.size()),
                     begin);
  }
  GgufTensor tensor;
  tensor.name = std::string(name);
  int64_t num_elements = 0;
  INTARSIA_RETURN_IF_ERROR(ReadShape(&tensor, &num_elements));
  const auto type_number = reader_.Read<uint32_t>();
  const auto offset = reader_.Read<uint64_t>();
  if (reader_.failed()) return EndsTooEarly("tensor type and offset");
  const std::optional<BlockType> type = BlockTypeOf(type_number);
  if (!type.has_value()) {
    return Fail(StatusCode::kUnsupported,
                "unsupported gguf tensor type: tensor=" + tensor.name +
                    " type=" + std::to_string(type_number) +
                    "; use a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or "
                    "Q6_K:",
                begin);
  }
  tensor.type = *type;
  // A row is a whole number of blocks, hence so is the tensor.
  const int64_t num_bytes = kernels::RowBytes(*type, tensor.shape[0]) < 0
                                ? int64_t{-1}
                                : kernels::RowBytes(*type, num_elements);
  if (num_bytes < 0) {
    return Malformed("gguf tensor rows are not whole blocks or are too large: tensor=" +
                         tensor.name + " row_size=" + std::to_string(tensor.shape[0]) +
                         " type=" + std::string(kernels::BlockTypeName(*type)),
                     begin);
  }
  if (offset % static_cast<uint64_t>(alignment_) != 0 ||
      offset > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Malformed("gguf tensor offset is not aligned: tensor=" + tensor.name +
                         " tensor_offset=" + std::to_string(offset) +
                         " alignment=" + std::to_string(alignment_),
                     begin);
  }
  if (!file_->tensor_indices.emplace(name, static_cast<int64_t>(file_->tensors.size())).second) {
    return Malformed("duplicate gguf tensor: tensor=" + tensor.name, begin);
  }
  offsets_.emplace_back(static_cast<int64_t>(offset), num_bytes);
  file_->tensors.push_back(std::move(tensor));
  return Status::Ok();
}

// The data begins at the next multiple of the alignment; each tensor must lie inside the file and
// apart from the others.
Status Parser::PlaceTensors() {
  const int64_t data_begin = (reader_.offset() + alignment_ - 1) / alignment_ * alignment_;
  const int64_t data_bytes = static_cast<int64_t>(file_->bytes.size()) - data_begin;
  for (size_t i = 0; i < offsets_.size(); ++i) {
    const auto [offset, num_bytes] = offsets_[i];
    if (offset > data_bytes || num_bytes > data_bytes - offset) {
      return Malformed("gguf tensor exceeds the file: tensor=" + file_->tensors[i].name +
                           " tensor_offset=" + std::to_string(offset) +
                           " num_bytes=" + std::to_string(num_bytes) +
                           " file_size=" + std::to_string(file_->bytes.size()),
                       data_begin);
    }
    file_->tensors[i].bytes = file_->bytes.substr(static_cast<size_t>(data_begin + offset),
                                                  static_cast<size_t>(num_bytes));
  }
  std::sort(offsets_.begin(), offsets_.end());
  for (size_t i = 1; i < offsets_.size(); ++i) {
    if (offsets_[i - 1].first + offsets_[i - 1].second > offsets_[i].first) {
      return Malformed("gguf tensors overlap: tensor_offset=" + std::to_string(offsets_[i].first),
                       data_begin);
    }
  }
  return Status::Ok();
}

Result<const GgufValue*> Find(const State& file, std::string_view key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) {
    return Status(StatusCode::kNotFound,
                  "no such gguf key: key=" + std::string(key) + " file=" + file.name);
  }
  return &found->second;
}

Status WrongType(const State& file, std::string_view key, std::string_view wanted) {
  return Status(StatusCode::kInvalidArgument, "gguf key has another type: key=" + std::string(key) +
                                                  " want=" + std::string(wanted) +
                                                  " file=" + file.name);
}

Result<std::vector<int64_t>> ReadInts(const State& file, std::string_view key,
                                      const GgufValue& value) {
  std::optional<std::vector<int64_t>> numbers = GgufInts(value);
  if (!numbers.has_value()) return WrongType(file, key, "an integer below 2^63");
  return *std::move(numbers);
}

Result<std::unique_ptr<GgufFile>> ParseState(std::unique_ptr<State> state) {
  INTARSIA_RETURN_IF_ERROR(Parser(state.get()).Run());
  return std::make_unique<GgufFile>(std::move(state));
}

}  // namespace

int64_t GgufTensor::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

Result<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path, FileSystem* file_system) {
  auto state = std::make_unique<State>();
  INTARSIA_ASSIGN_OR_RETURN(state->mapping, file_system->Map(path));
  state->bytes = state->mapping->bytes();
  state->name = path;
  return ParseState(std::move(state));
}

Result<std::unique_ptr<GgufFile>> GgufFile::Parse(std::string_view bytes, std::string_view name) {
  auto state = std::make_unique<State>();
  state->bytes = bytes;
  state->name = std::string(name);
  return ParseState(std::move(state));
}

GgufFile::GgufFile(std::unique_ptr<const State> state) : state_(std::move(state)) {}
GgufFile::~GgufFile() = default;

Result<int64_t> GgufFile::GetInt(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (value->is_array || !IsGgufInt(value->type)) return WrongType(*state_, key, "integer");
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers, ReadInts(*state_, key, *value));
  return numbers[0];
}

Result<double> GgufFile::GetFloat(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (value->is_array || !IsGgufFloat(value->type)) return WrongType(*state_, key, "float");
  return GgufFloats(*value)[0];
}

Result<std::string_view> GgufFile::GetString(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (value->is_array || value->type != GgufValueType::kString)
    return WrongType(*state_, key, "string");
  return value->bytes;
}

Result<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (!value->is_array || value->type != GgufValueType::kString) {
    return WrongType(*state_, key, "array of strings");
  }
  return GgufStrings(*value);
}

Result<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (!value->is_array || !IsGgufInt(value->type))
    return WrongType(*state_, key, "array of integers");
  return ReadInts(*state_, key, *value);
}

Result<std::vector<double>> GgufFile::GetFloats(std::string_view key) const {
  INTARSIA_ASSIGN_OR_RETURN(const GgufValue* value, Find(*state_, key));
  if (!value->is_array || !IsGgufFloat(value->type))
    return WrongType(*state_, key, "array of floats");
  return GgufFloats(*value);
}

Result<const GgufTensor*> GgufFile::GetTensor(std::string_view name) const {
  const auto found = state_->tensor_indices.find(name);
  if (found == state_->tensor_indices.end()) {
    return Status(StatusCode::kNotFound,
                  "no such gguf tensor: tensor=" + std::string(name) + " file=" + state_->name);
  }
  return &state_->tensors[static_cast<size_t>(found->second)];
}

std::span<const GgufTensor> GgufFile::tensors() const { return state_->tensors; }
std::string_view GgufFile::bytes() const { return state_->bytes; }
bool GgufFile::Has(std::string_view key) const { return state_->metadata.contains(key); }

Status GgufFile::CheckUnchanged() const {
  return state_->mapping == nullptr ? Status::Ok() : state_->mapping->CheckUnchanged();
}

}  // namespace intarsia::model
