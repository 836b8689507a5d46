// Any bytes given to SafetensorsFile: an error, or a file whose tensors can be read.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/safetensors.h"
#include "tests/fuzz/fuzz_driver.h"
#include "tests/model/safetensors_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto file = intarsia::model::SafetensorsFile::Parse(bytes, "fuzz");
  if (!file.ok()) return 0;
  for (const intarsia::model::SafetensorsTensor& tensor : (*file)->tensors()) {
    INTARSIA_CHECK((*file)->Has(tensor.name));
    const auto values = (*file)->ReadF32(tensor.name, tensor.shape);
    INTARSIA_CHECK(values.ok() || values.status().code() == intarsia::StatusCode::kUnsupported);
  }
  return 0;
}

intarsia::fuzz::Corpus intarsia::fuzz::Seeds() {
  using intarsia::model::BuildSafetensors;
  using intarsia::model::SafetensorsEntry;
  Corpus corpus;
  corpus.inputs.push_back(BuildSafetensors("{\"__metadata__\":{\"format\":\"pt\"}," +
                                               SafetensorsEntry("w", "F32", "[2,2]", 0, 16) + "," +
                                               SafetensorsEntry("b", "BF16", "[3]", 16, 22) + "," +
                                               SafetensorsEntry("i", "I64", "[1]", 22, 30) + "}",
                                           std::string(30, 'x')));
  corpus.inputs.push_back(
      BuildSafetensors("{" + SafetensorsEntry("h", "F16", "[0,4]", 0, 0) + "}  ", ""));
  corpus.inputs.push_back(BuildSafetensors("{}", ""));
  corpus.words = {"{",
                  "}",
                  "[",
                  "]",
                  ",",
                  ":",
                  "\"dtype\":",
                  "\"shape\":",
                  "\"data_offsets\":",
                  "\"__metadata__\":",
                  "\"F16\"",
                  "18446744073709551615",
                  "-1",
                  "1e3",
                  "\\ud800"};
  return corpus;
}
