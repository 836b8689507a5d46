// Any bytes given to GgufFile: an error, or a file whose accessors stay inside the bytes.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/gguf.h"
#include "tests/fuzz/fuzz_driver.h"
#include "tests/model/gguf_builder.h"

namespace {

constexpr std::string_view kKeys[] = {"general.architecture", "general.alignment", "numbers",
                                      "tokens", "scale"};

// Asks for each key as each type; what does not fit must be an error.
void ReadMetadata(const intarsia::model::GgufFile& file) {
  for (const std::string_view key : kKeys) {
    file.GetInt(key).status().IgnoreError();  // Not crashing is what is tested.
    file.GetFloat(key).status().IgnoreError();
    file.GetString(key).status().IgnoreError();
    file.GetStrings(key).status().IgnoreError();
    file.GetInts(key).status().IgnoreError();
    file.GetFloats(key).status().IgnoreError();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto file = intarsia::model::GgufFile::Parse(bytes, "fuzz");
  if (!file.ok()) return 0;
  ReadMetadata(**file);
  for (const intarsia::model::GgufTensor& tensor : (*file)->tensors()) {
    INTARSIA_CHECK((*file)->GetTensor(tensor.name).ok());
    std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
    INTARSIA_CHECK(intarsia::kernels::Dequantize(tensor.type, tensor.bytes.data(),
                                                 tensor.num_elements(), values.data())
                       .ok());
  }
  return 0;
}

intarsia::fuzz::Corpus intarsia::fuzz::Seeds() {
  using intarsia::model::GgufBuilder;
  using intarsia::model::GgufValueType;
  Corpus corpus;
  GgufBuilder all;
  all.AddString("general.architecture", "llama")
      .AddUint32("general.alignment", 32)
      .AddNumbers("numbers", GgufValueType::kInt16, {1, -2, 3})
      .AddStrings("tokens", {"a", "bc", ""})
      .AddFloat32("scale", 0.5F);
  for (const kernels::BlockType type : kernels::kAllBlockTypes) {
    all.AddRandom(kernels::BlockTypeName(type), type, {256}, 1.0F, /*seed=*/1);
  }
  corpus.inputs.push_back(all.Build());
  corpus.inputs.push_back(
      GgufBuilder().AddRandom("t", kernels::BlockType::kQ8_0, {32, 2}, 1.0F, /*seed=*/2).Build());
  corpus.inputs.push_back(GgufBuilder().set_version(2).AddStrings("tokens", {"x"}).Build());
  corpus.words = {"GGUF", "general.alignment", std::string("\x09\0\0\0", 4),
                  std::string("\x08\0\0\0", 4), std::string("\x01\0\0\0\0\0\0\0", 8)};
  return corpus;
}
