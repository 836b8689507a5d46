#include "model/safetensors.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/bytes.h"

namespace intarsia::model {
namespace {

using kernels::BlockType;

constexpr int64_t kHeaderBytesMax = 100'000'000;  // The limit of the format.
constexpr size_t kNumDimensionsMax = 8;

// Bytes of an element; 0 for a dtype that we do not know.
int64_t WidthOf(std::string_view dtype) {
  constexpr std::pair<std::string_view, int64_t> kWidths[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
      {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8},
  };
  for (const auto& [name, width] : kWidths) {
    if (name == dtype) return width;
  }
  return 0;
}

struct Entry {
  SafetensorsTensor tensor;
  std::vector<int64_t> offsets;  // begin and end in the data
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

// Receives the header's JSON as it is parsed and accepts nothing but its three levels: tensors, the
// fields of a tensor, the numbers of a field. So no document is ever built from hostile nesting.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> TakeEntries() { return std::move(entries_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return Fail("null"); }
  bool boolean(bool /*value*/) override { return Fail("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override { return Fail("a negative number"); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return Fail("a number that is no integer");
  }
  bool binary(binary_t& /*value*/) override { return Fail("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (numbers_ == nullptr) return Fail("a number");
    if (value > static_cast<uint64_t>(INT64_MAX)) return Fail("a number above 2^63 - 1");
    if (numbers_->size() == kNumDimensionsMax) return Fail("more than 8 dimensions");
    numbers_->push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ == 2 && is_metadata_) return true;
    if (depth_ != 2 || field_ != "dtype") return Fail("a string");
    entries_.back().tensor.dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    if (depth_ == 2 || numbers_ != nullptr) return Fail("an object");
    ++depth_;
    return true;
  }
  bool end_object() override {
    if (depth_ == 2 && !is_metadata_) {
      const Entry& entry = entries_.back();
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets) {
        return Fail("the end of a tensor without dtype, shape or data_offsets");
      }
    }
    --depth_;
    return true;
  }

  bool start_array(std::size_t /*size*/) override {
    if (depth_ != 2 || is_metadata_ || numbers_ != nullptr) return Fail("an array");
    if (field_ == "shape") numbers_ = &entries_.back().tensor.shape;
    if (field_ == "data_offsets") numbers_ = &entries_.back().offsets;
    return numbers_ != nullptr || Fail("an array");
  }
  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 1) return BeginTensor(name);
    if (is_metadata_) return true;
    Entry& entry = entries_.back();
    bool* seen = nullptr;
    if (name == "dtype") seen = &entry.has_dtype;
    if (name == "shape") seen = &entry.has_shape;
    if (name == "data_offsets") seen = &entry.has_offsets;
    if (seen == nullptr || *seen) return Fail("an unknown or repeated field \"" + name + "\"");
    *seen = true;
    field_ = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    problem_ = "is not JSON: offset=" + std::to_string(position);
    return false;
  }

 private:
  bool BeginTensor(const std::string& name) {
    is_metadata_ = name == "__metadata__";
    if (is_metadata_) {
      if (has_metadata_) return Fail("a second __metadata__");
      has_metadata_ = true;
      return true;
    }
    entries_.emplace_back();
    entries_.back().tensor.name = name;
    return true;
  }

  bool Fail(const std::string& what) {
    problem_ = "has " + what + " in an unexpected place";
    if (depth_ > 0 && !entries_.empty()) problem_ += ": near=" + entries_.back().tensor.name;
    return false;
  }

  int depth_ = 0;  // of objects: 1 in the header, 2 in a tensor or the metadata
  bool is_metadata_ = false;
  bool has_metadata_ = false;
  std::string field_;
  std::vector<int64_t>* numbers_ = nullptr;  // Where the open array goes; null outside of one.
  std::vector<Entry> entries_;
  std::string problem_;
};

Status Malformed(const std::string& what, std::string_view file) {
  return Status(StatusCode::kCorruption, what + " file=" + std::string(file));
}

// The size that dtype and shape ask for must be that of the range, and the range inside the data.
Status PlaceTensor(std::string_view data, std::string_view file, Entry* entry) {
  SafetensorsTensor& tensor = entry->tensor;
  const int64_t width = WidthOf(tensor.dtype);
  if (width == 0) {
    return Status(StatusCode::kUnsupported, "unknown safetensors dtype: tensor=" + tensor.name +
                                                " dtype=" + tensor.dtype +
                                                " file=" + std::string(file));
  }
  int64_t num_bytes = width;
  for (const int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(num_bytes, size, &num_bytes)) {
      return Malformed("safetensors shape is too large: tensor=" + tensor.name, file);
    }
  }
  const std::vector<int64_t>& offsets = entry->offsets;
  if (offsets.size() != 2 || offsets[0] > offsets[1] ||
      offsets[1] > static_cast<int64_t>(data.size()) || offsets[1] - offsets[0] != num_bytes) {
    return Malformed("safetensors data_offsets do not fit shape and file: tensor=" + tensor.name +
                         " num_bytes=" + std::to_string(num_bytes) +
                         " data_size=" + std::to_string(data.size()),
                     file);
  }
  tensor.bytes = data.substr(static_cast<size_t>(offsets[0]), static_cast<size_t>(num_bytes));
  return Status::Ok();
}

// Tensors must follow one another without a gap and fill the data, as the format demands.
Status CheckCoverage(std::vector<Entry>* entries, std::string_view data, std::string_view file) {
  std::sort(entries->begin(), entries->end(),
            [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  int64_t end = 0;
  for (const Entry& entry : *entries) {
    if (entry.offsets[0] != end) {
      return Malformed("safetensors data has a gap or an overlap: tensor=" + entry.tensor.name +
                           " begin=" + std::to_string(entry.offsets[0]) +
                           " want=" + std::to_string(end),
                       file);
    }
    end = entry.offsets[1];
  }
  if (end != static_cast<int64_t>(data.size())) {
    return Malformed("safetensors data is larger than its tensors: want=" + std::to_string(end) +
                         " got=" + std::to_string(data.size()),
                     file);
  }
  return Status::Ok();
}

// The tensors of a file, sorted by name.
Result<std::vector<SafetensorsTensor>> ParseTensors(std::string_view bytes, std::string_view file) {
  ByteReader reader(bytes, file);
  const auto header_bytes = reader.Read<uint64_t>();
  if (reader.failed() || header_bytes > static_cast<uint64_t>(kHeaderBytesMax) ||
      header_bytes > static_cast<uint64_t>(reader.remaining())) {
    return Malformed("safetensors header exceeds the file or its limit: offset=0 header_bytes=" +
                         std::to_string(header_bytes) +
                         " file_size=" + std::to_string(bytes.size()),
                     file);
  }
  const std::string_view header = reader.ReadBytes(static_cast<int64_t>(header_bytes));
  const std::string_view data = reader.ReadBytes(reader.remaining());
  HeaderHandler handler;
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &handler)) {
    return Malformed("safetensors header " + handler.problem(), file);
  }
  std::vector<Entry> entries = handler.TakeEntries();
  for (Entry& entry : entries) INTARSIA_RETURN_IF_ERROR(PlaceTensor(data, file, &entry));
  INTARSIA_RETURN_IF_ERROR(CheckCoverage(&entries, data, file));
  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) tensors.push_back(std::move(entry.tensor));
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].name == tensors[i - 1].name) {
      return Malformed("duplicate safetensors tensor: tensor=" + tensors[i].name, file);
    }
  }
  return tensors;
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? "," : "") + std::to_string(size);
  return text + "]";
}

}  // namespace

int64_t SafetensorsTensor::num_elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path,
                                                               FileSystem* file_system) {
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapping, file_system->Map(path));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file, Parse(mapping->bytes(), path));
  file->mapping_ = std::move(mapping);
  return file;
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Parse(std::string_view bytes,
                                                                std::string_view name) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(bytes, name));
  INTARSIA_ASSIGN_OR_RETURN(file->tensors_, ParseTensors(bytes, name));
  return file;
}

bool SafetensorsFile::Has(std::string_view name) const { return GetTensor(name).ok(); }

Result<const SafetensorsTensor*> SafetensorsFile::GetTensor(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const SafetensorsTensor& tensor, std::string_view wanted) {
                                        return tensor.name < wanted;
                                      });
  if (found == tensors_.end() || found->name != name) {
    return Status(StatusCode::kNotFound,
                  "no such safetensors tensor: tensor=" + std::string(name) + " file=" + name_);
  }
  return &*found;
}

Result<std::vector<float>> SafetensorsFile::ReadF32(std::string_view name,
                                                    std::span<const int64_t> shape) const {
  INTARSIA_ASSIGN_OR_RETURN(const SafetensorsTensor* tensor, GetTensor(name));
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    return Status(StatusCode::kInvalidArgument,
                  "safetensors tensor has another shape: tensor=" + tensor->name + " want=" +
                      ShapeText(shape) + " got=" + ShapeText(tensor->shape) + " file=" + name_);
  }
  BlockType type = BlockType::kF32;
  if (tensor->dtype == "F16") {
    type = BlockType::kF16;
  } else if (tensor->dtype == "BF16") {
    type = BlockType::kBf16;
  } else if (tensor->dtype != "F32") {
    return Status(StatusCode::kUnsupported,
                  "safetensors dtype is not read as f32: tensor=" + tensor->name +
                      " dtype=" + tensor->dtype + " want=F32, F16 or BF16 file=" + name_);
  }
  std::vector<float> values(static_cast<size_t>(tensor->num_elements()));
  INTARSIA_RETURN_IF_ERROR(
      kernels::Dequantize(type, tensor->bytes.data(), tensor->num_elements(), values.data()));
  return values;
}

}  // namespace intarsia::model
