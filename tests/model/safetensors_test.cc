#include "model/safetensors.h"

#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/model/safetensors_builder.h"

namespace intarsia::model {
namespace {

using Shape = std::vector<int64_t>;

// [2, 2] f32; [3] bf16: 1, -2, 0; [3] f16: 1, -2, 0.5; [1] i64; a scalar; an empty tensor.
std::string FullFile() {
  ByteWriter data;
  for (const float value : {1.0F, -2.0F, 0.5F, 4.0F}) data.Write(value);
  for (const int bits : {0x3F80, 0xC000, 0x0000}) data.Write(static_cast<uint16_t>(bits));
  for (const int bits : {0x3C00, 0xC000, 0x3800}) data.Write(static_cast<uint16_t>(bits));
  data.Write(int64_t{7});
  data.Write(8.0F);
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," +
                             SafetensorsEntry("w", "F32", "[2,2]", 0, 16) + "," +
                             SafetensorsEntry("b", "BF16", "[3]", 16, 22) + "," +
                             SafetensorsEntry("h", "F16", "[3]", 22, 28) + "," +
                             SafetensorsEntry("ids", "I64", "[1]", 28, 36) + "," +
                             SafetensorsEntry("scalar", "F32", "[]", 36, 40) + "," +
                             SafetensorsEntry("empty", "F32", "[0,5]", 40, 40) + "}   ";
  return BuildSafetensors(header, data.bytes());
}

StatusCode CodeOf(const std::string& header, size_t num_data_bytes = 8) {
  const std::string bytes = BuildSafetensors(header, std::string(num_data_bytes, 'x'));
  const auto file = SafetensorsFile::Parse(bytes, "test");
  EXPECT_TRUE(file.ok() || file.status().message().ends_with("file=test")) << file.status();
  return file.status().code();
}

TEST(SafetensorsFileTest, ReadsTensorsOfEveryFloatType) {
  const std::string bytes = FullFile();
  const auto file = SafetensorsFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().size(), 6U);
  EXPECT_EQ(*(*file)->ReadF32("w", Shape{2, 2}), (std::vector<float>{1.0F, -2.0F, 0.5F, 4.0F}));
  EXPECT_EQ(*(*file)->ReadF32("b", Shape{3}), (std::vector<float>{1.0F, -2.0F, 0.0F}));
  EXPECT_EQ(*(*file)->ReadF32("h", Shape{3}), (std::vector<float>{1.0F, -2.0F, 0.5F}));
  EXPECT_EQ(*(*file)->ReadF32("scalar", Shape{}), (std::vector<float>{8.0F}));
  EXPECT_TRUE((*file)->ReadF32("empty", Shape{0, 5})->empty());
  EXPECT_EQ((*(*file)->GetTensor("ids"))->dtype, "I64");
  EXPECT_EQ((*(*file)->GetTensor("ids"))->bytes.size(), 8U);
  EXPECT_TRUE((*file)->Has("w"));
  EXPECT_FALSE((*file)->Has("__metadata__"));
  EXPECT_EQ((*file)->bytes(), bytes);
}

TEST(SafetensorsFileTest, RefusesAnAbsentNameAnotherShapeAndAnotherType) {
  const std::string bytes = FullFile();
  const auto file = SafetensorsFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->ReadF32("x", Shape{1}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ((*file)->ReadF32("ids", Shape{1}).status().code(), StatusCode::kUnsupported);
  const Status status = (*file)->ReadF32("w", Shape{4}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("want=[4] got=[2,2]"), std::string_view::npos) << status;
}

TEST(SafetensorsFileTest, EveryTruncationIsAnError) {
  const std::string bytes = FullFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut = bytes.substr(0, size);
    ASSERT_EQ(SafetensorsFile::Parse(cut, "test").status().code(), StatusCode::kCorruption) << size;
  }
}

TEST(SafetensorsFileTest, EveryFlippedBitGivesAFileOrAnErrorAndNeverAReadOutside) {
  const std::string bytes = FullFile();
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    std::string flipped = bytes;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << (i % 8)));
    const auto file = SafetensorsFile::Parse(flipped, "test");
    if (!file.ok()) continue;
    for (const SafetensorsTensor& tensor : (*file)->tensors()) {
      ASSERT_GE(tensor.bytes.data(), flipped.data());
      ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), flipped.data() + flipped.size());
    }
  }
}

TEST(SafetensorsFileTest, AHeaderThatIsNotTheFormatsIsRefused) {
  const std::string tensor = SafetensorsEntry("a", "F32", "[2]", 0, 8);
  ASSERT_EQ(CodeOf("{" + tensor + "}"), StatusCode::kOk);
  const std::string headers[] = {
      "",
      "null",
      "[]",
      "5",
      "{" + tensor,
      "{" + tensor + "} x",
      "{" + tensor + "," + tensor + "}",
      R"({"a":5})",
      R"({"a":[1]})",
      R"({"a":"x"})",
      R"({"a":{}})",
      R"({"a":{"dtype":"F32","shape":[2]}})",
      R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})",
      R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":{"b":1},"shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})",
      R"({"__metadata__":{"a":{"b":"c"}}})",
      R"({"__metadata__":{"a":1}})",
      R"({"__metadata__":{},"__metadata__":{}})",
      "{\"a\xFF\":{}}",
  };
  for (const std::string& header : headers) {
    EXPECT_EQ(CodeOf(header), StatusCode::kCorruption) << header;
  }
}

TEST(SafetensorsFileTest, DeepNestingIsRefusedAtItsFirstLevels) {
  EXPECT_EQ(CodeOf("{\"a\":" + std::string(1'000'000, '[')), StatusCode::kCorruption);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(CodeOf(objects), StatusCode::kCorruption);
}

TEST(SafetensorsFileTest, RangesThatDoNotFitAreRefused) {
  const auto code = [](const std::string& shape, int64_t begin, int64_t end) {
    return CodeOf("{" + SafetensorsEntry("a", "F32", shape, begin, end) + "}");
  };
  EXPECT_EQ(code("[2]", 0, 8), StatusCode::kOk);
  EXPECT_EQ(code("[3]", 0, 12), StatusCode::kCorruption);  // behind the end
  EXPECT_EQ(code("[1]", 0, 8), StatusCode::kCorruption);   // larger than the shape
  EXPECT_EQ(code("[1]", 0, 4), StatusCode::kCorruption);   // data left over
  EXPECT_EQ(code("[1]", 4, 8), StatusCode::kCorruption);   // a gap
  EXPECT_EQ(code("[2]", 8, 0), StatusCode::kCorruption);
  EXPECT_EQ(code("[4611686018427387904,4]", 0, 0), StatusCode::kCorruption);
  EXPECT_EQ(code("[9223372036854775807]", 0, 8), StatusCode::kCorruption);
  EXPECT_EQ(code("[18446744073709551615]", 0, 8), StatusCode::kCorruption);
  EXPECT_EQ(code("[99999999999999999999999]", 0, 8), StatusCode::kCorruption);
  EXPECT_EQ(code("[1,1,1,1,1,1,1,1,2]", 0, 8), StatusCode::kCorruption);
  EXPECT_EQ(CodeOf("{" + SafetensorsEntry("a", "F32", "[2]", 0, 8) + "," +
                   SafetensorsEntry("b", "F32", "[2]", 0, 8) + "}"),
            StatusCode::kCorruption);  // overlapping
}

TEST(SafetensorsFileTest, AnUnknownTypeIsUnsupported) {
  EXPECT_EQ(CodeOf("{" + SafetensorsEntry("a", "F4", "[16]", 0, 8) + "}"),
            StatusCode::kUnsupported);
}

TEST(SafetensorsFileTest, AFileIsMappedAndAMissingOneIsNotFound) {
  const std::string path = testing::TempDir() + "safetensors_test.safetensors";
  ASSERT_TRUE(FileSystem::Local()->WriteAtomically(path, FullFile()).ok());
  const auto file = SafetensorsFile::Open(path, FileSystem::Local());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->ReadF32("w", Shape{2, 2})->at(3), 4.0F);
  ASSERT_TRUE(FileSystem::Local()->Remove(path).ok());
  EXPECT_EQ(SafetensorsFile::Open(path, FileSystem::Local()).status().code(),
            StatusCode::kNotFound);
}

TEST(SafetensorsFileTest, ReadsTheEmbedderOfThisProject) {
  const std::string path = "models/all-MiniLM-L6-v2/model.safetensors";
  if (!FileSystem::Local()->Exists(path)) GTEST_SKIP() << "no " << path;
  const auto file = SafetensorsFile::Open(path, FileSystem::Local());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_GT((*file)->tensors().size(), 50U);
}

}  // namespace
}  // namespace intarsia::model
