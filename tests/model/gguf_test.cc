#include "model/gguf.h"

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/kernels/random_blocks.h"
#include "tests/model/gguf_builder.h"

namespace intarsia::model {
namespace {

using kernels::BlockType;

// A file with metadata of every type and a tensor of every type.
GgufBuilder FullBuilder() {
  GgufBuilder builder;
  builder.AddString("general.architecture", "llama")
      .AddNumber("int.u8", GgufValueType::kUint8, 200)
      .AddNumber("int.i8", GgufValueType::kInt8, -100)
      .AddNumber("int.u16", GgufValueType::kUint16, 60'000)
      .AddNumber("int.i16", GgufValueType::kInt16, -30'000)
      .AddNumber("int.u32", GgufValueType::kUint32, 4e9)
      .AddNumber("int.i32", GgufValueType::kInt32, -2e9)
      .AddNumber("int.u64", GgufValueType::kUint64, 1e15)
      .AddNumber("int.i64", GgufValueType::kInt64, -1e15)
      .AddNumber("bool", GgufValueType::kBool, 1)
      .AddFloat32("float.f32", 0.5F)
      .AddNumber("float.f64", GgufValueType::kFloat64, -0.1)
      .AddStrings("strings", {"a", "", std::string("\0x", 2)})
      .AddNumbers("ints", GgufValueType::kInt16, {-1, 2, 3})
      .AddNumbers("floats", GgufValueType::kFloat32, {0.25, -4})
      .AddNumbers("empty", GgufValueType::kUint32, {});
  for (const BlockType type : kernels::kAllBlockTypes) {
    builder.AddRandom(kernels::BlockTypeName(type), type, {256, 2}, 1.0F, /*seed=*/5);
  }
  return builder;
}

Status ParseStatus(const std::string& bytes) { return GgufFile::Parse(bytes, "test").status(); }

// One entry and one tensor, as small as a file with everything in it can be.
std::string SmallFile() {
  return GgufBuilder()
      .AddStrings("s", {"ab", "c"})
      .AddRandom("t", BlockType::kQ8_0, {32}, 1.0F, /*seed=*/1)
      .Build();
}

TEST(GgufFileTest, ReadsMetadataOfEveryType) {
  const std::string bytes = FullBuilder().Build();
  const auto file = GgufFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  const GgufFile& gguf = **file;
  const std::pair<const char*, int64_t> ints[] = {
      {"int.u8", 200},
      {"int.i8", -100},
      {"int.u16", 60'000},
      {"int.i16", -30'000},
      {"int.u32", 4'000'000'000},
      {"int.i32", -2'000'000'000},
      {"int.u64", 1'000'000'000'000'000},
      {"int.i64", -1'000'000'000'000'000},
      {"bool", 1},
  };
  for (const auto& [key, value] : ints) EXPECT_EQ(*gguf.GetInt(key), value) << key;
  EXPECT_EQ(*gguf.GetFloat("float.f32"), 0.5);
  EXPECT_EQ(*gguf.GetFloat("float.f64"), -0.1);
  EXPECT_EQ(*gguf.GetString("general.architecture"), "llama");
  const std::vector<std::string_view> strings = {"a", "", std::string_view("\0x", 2)};
  EXPECT_EQ(*gguf.GetStrings("strings"), strings);
  EXPECT_EQ(*gguf.GetInts("ints"), (std::vector<int64_t>{-1, 2, 3}));
  EXPECT_EQ(*gguf.GetFloats("floats"), (std::vector<double>{0.25, -4}));
  EXPECT_TRUE(gguf.GetInts("empty")->empty());
  EXPECT_TRUE(gguf.Has("bool"));
  EXPECT_FALSE(gguf.Has("boo"));
  EXPECT_EQ(gguf.bytes(), bytes);
}

TEST(GgufFileTest, FindsTensorsOfEveryTypeWithTheirBytes) {
  const std::string bytes = FullBuilder().Build();
  const auto file = GgufFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->tensors().size(), std::size(kernels::kAllBlockTypes));
  for (const BlockType type : kernels::kAllBlockTypes) {
    const auto tensor = (*file)->GetTensor(kernels::BlockTypeName(type));
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ((*tensor)->type, type);
    EXPECT_EQ((*tensor)->shape, (std::vector<int64_t>{256, 2}));
    EXPECT_EQ((*tensor)->num_elements(), 512);
    EXPECT_EQ((*tensor)->bytes, kernels::RandomBlocks(type, 512, 1.0F, /*seed=*/5));
  }
  EXPECT_EQ((*file)->GetTensor("absent").status().code(), StatusCode::kNotFound);
}

TEST(GgufFileTest, AKeyOfAnotherTypeIsNotConverted) {
  const std::string bytes = FullBuilder().Build();
  const auto file = GgufFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  const GgufFile& gguf = **file;
  const auto wrong = StatusCode::kInvalidArgument;
  EXPECT_EQ(gguf.GetInt("float.f32").status().code(), wrong);
  EXPECT_EQ(gguf.GetInt("ints").status().code(), wrong);
  EXPECT_EQ(gguf.GetFloat("int.u8").status().code(), wrong);
  EXPECT_EQ(gguf.GetString("strings").status().code(), wrong);
  EXPECT_EQ(gguf.GetStrings("general.architecture").status().code(), wrong);
  EXPECT_EQ(gguf.GetStrings("ints").status().code(), wrong);
  EXPECT_EQ(gguf.GetInts("int.u8").status().code(), wrong);
  EXPECT_EQ(gguf.GetInts("floats").status().code(), wrong);
  EXPECT_EQ(gguf.GetFloats("ints").status().code(), wrong);
  EXPECT_EQ(gguf.GetInt("absent").status().code(), StatusCode::kNotFound);
}

TEST(GgufFileTest, AnIntegerBeyondInt64IsRefusedWhenItIsRead) {
  ByteWriter value;
  value.Write(std::numeric_limits<uint64_t>::max());
  const std::string bytes =
      GgufBuilder()
          .AddRaw("big", static_cast<uint32_t>(GgufValueType::kUint64), value.bytes())
          .Build();
  const auto file = GgufFile::Parse(bytes, "test");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->GetInt("big").status().code(), StatusCode::kInvalidArgument);
}

TEST(GgufFileTest, VersionTwoIsReadAndOthersAreUnsupported) {
  EXPECT_TRUE(ParseStatus(GgufBuilder().set_version(2).Build()).ok());
  for (const uint32_t version : {0U, 1U, 4U, 0x03000000U}) {
    EXPECT_EQ(ParseStatus(GgufBuilder().set_version(version).Build()).code(),
              StatusCode::kUnsupported);
  }
}

TEST(GgufFileTest, AlignmentOfTheDataComesFromTheMetadata) {
  for (const int64_t alignment : {1, 8, 4'096}) {
    const std::string bytes = GgufBuilder()
                                  .set_alignment(alignment)
                                  .AddUint32("general.alignment", static_cast<uint32_t>(alignment))
                                  .AddRandom("a", BlockType::kQ4_1, {32, 3}, 1.0F, /*seed=*/1)
                                  .AddRandom("b", BlockType::kF16, {5}, 1.0F, /*seed=*/2)
                                  .Build();
    const auto file = GgufFile::Parse(bytes, "test");
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ((*(*file)->GetTensor("b"))->bytes,
              kernels::RandomBlocks(BlockType::kF16, 5, 1.0F, /*seed=*/2));
  }
  for (const uint32_t alignment : {0U, 3U, 0x80000000U}) {
    EXPECT_EQ(ParseStatus(GgufBuilder().AddUint32("general.alignment", alignment).Build()).code(),
              StatusCode::kCorruption);
  }
}

TEST(GgufFileTest, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::string bytes = SmallFile();
  ASSERT_TRUE(ParseStatus(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut(bytes, 0, size);
    const Status status = ParseStatus(std::string(cut.data(), cut.size()));
    ASSERT_EQ(status.code(), StatusCode::kCorruption) << "size " << size;
    ASSERT_NE(status.message().find("file=test offset="), std::string_view::npos) << status;
  }
}

TEST(GgufFileTest, EveryFlippedBitGivesAFileOrAnErrorAndNeverAReadOutside) {
  const std::string bytes = SmallFile();
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    std::string flipped = bytes;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << (i % 8)));
    const auto file = GgufFile::Parse(flipped, "test");
    if (!file.ok()) continue;
    for (const GgufTensor& tensor : (*file)->tensors()) {
      ASSERT_GE(tensor.bytes.data(), flipped.data());
      ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), flipped.data() + flipped.size());
    }
  }
}

TEST(GgufFileTest, CountsBeyondTheFileAreRefusedBeforeAnythingIsReserved) {
  for (const int64_t count :
       {int64_t{1}, int64_t{1} << 40, int64_t{-1}, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(ParseStatus(GgufBuilder().set_num_tensors(count).Build()).code(),
              StatusCode::kCorruption);
    EXPECT_EQ(ParseStatus(GgufBuilder().set_num_entries(count).Build()).code(),
              StatusCode::kCorruption);
  }
  for (const uint64_t count : {uint64_t{3}, uint64_t{1} << 61, ~uint64_t{0}}) {
    ByteWriter array;
    array.Write(static_cast<uint32_t>(GgufValueType::kUint64));
    array.Write(count);
    array.Write(uint64_t{0});
    EXPECT_EQ(ParseStatus(GgufBuilder().AddRaw("array", 9, array.bytes()).Build()).code(),
              StatusCode::kCorruption);
  }
}

TEST(GgufFileTest, UnknownAndNestedValueTypesAreRefused) {
  EXPECT_EQ(ParseStatus(GgufBuilder().AddRaw("x", 13, "........").Build()).code(),
            StatusCode::kCorruption);
  for (const uint32_t element : {9U, 13U}) {
    ByteWriter array;
    array.Write(element);
    array.Write(uint64_t{0});
    const Status status = ParseStatus(GgufBuilder().AddRaw("x", 9, array.bytes()).Build());
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
  }
}

TEST(GgufFileTest, DuplicateAndEmptyNamesAreRefused) {
  EXPECT_EQ(ParseStatus(GgufBuilder().AddUint32("a", 1).AddString("a", "b").Build()).code(),
            StatusCode::kCorruption);
  EXPECT_EQ(ParseStatus(GgufBuilder().AddUint32("", 1).Build()).code(), StatusCode::kCorruption);
  const std::vector<float> weights(8);
  EXPECT_EQ(
      ParseStatus(GgufBuilder().AddF32("t", {8}, weights).AddF32("t", {8}, weights).Build()).code(),
      StatusCode::kCorruption);
  EXPECT_EQ(ParseStatus(GgufBuilder().AddF32("", {8}, weights).Build()).code(),
            StatusCode::kCorruption);
}

TEST(GgufFileTest, ShapesOutOfRangeAreRefused) {
  const int64_t huge = int64_t{1} << 40;
  const std::vector<int64_t> shapes[] = {
      {},
      {1, 1, 1, 1, 1},
      {0},
      {-1},
      {8, 0},
      {huge, huge},
      {huge},
      {int64_t{1} << 62, 4},
      {2, 4, 8, 16, 32},
      {std::numeric_limits<int64_t>::max()},
      {33, 1},
  };
  for (const std::vector<int64_t>& shape : shapes) {
    GgufBuilder builder;
    builder.AddF32("data", {64}, std::vector<float>(64));
    // 33 is fine for floats, so each shape is tried as Q8_0.
    builder.AddTensorRaw("t", GgufTensorTypeOf(BlockType::kQ8_0), shape, 0);
    EXPECT_EQ(ParseStatus(builder.Build()).code(), StatusCode::kCorruption);
  }
}

TEST(GgufFileTest, TensorsOutsideTheFileMisalignedOrOverlappingAreRefused) {
  const auto with_offset = [](int64_t offset) {
    GgufBuilder builder;
    builder.AddF32("data", {64}, std::vector<float>(64));
    builder.AddTensorRaw("t", GgufTensorTypeOf(BlockType::kF32), {8}, offset);
    return ParseStatus(builder.Build()).code();
  };
  EXPECT_EQ(with_offset(256), StatusCode::kCorruption);  // behind the end
  EXPECT_EQ(with_offset(240), StatusCode::kCorruption);  // not aligned
  EXPECT_EQ(with_offset(224), StatusCode::kCorruption);  // overlapping
  EXPECT_EQ(with_offset(-32), StatusCode::kCorruption);  // above 2^63
  EXPECT_EQ(with_offset(int64_t{1} << 62), StatusCode::kCorruption);
  EXPECT_EQ(with_offset(std::numeric_limits<int64_t>::max() - 31), StatusCode::kCorruption);
}

TEST(GgufFileTest, TensorTypesThatWeDoNotReadAreUnsupportedByName) {
  for (const uint32_t type : {4U, 5U, 9U, 10U, 15U, 31U, 1'000U}) {
    GgufBuilder builder;
    builder.AddTensorRaw("blk.0.attn_q.weight", type, {256}, 0);
    const Status status = ParseStatus(builder.Build());
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_NE(status.message().find("blk.0.attn_q.weight"), std::string_view::npos) << status;
  }
}

TEST(GgufFileTest, AFileIsMappedAndAMissingOneIsNotFound) {
  const std::string path = testing::TempDir() + "gguf_test.gguf";
  const std::string bytes = FullBuilder().Build();
  ASSERT_TRUE(FileSystem::Local()->WriteAtomically(path, bytes).ok());
  const auto file = GgufFile::Open(path, FileSystem::Local());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), bytes);
  ASSERT_TRUE(FileSystem::Local()->WriteAtomically(path, "").ok());
  EXPECT_EQ(GgufFile::Open(path, FileSystem::Local()).status().code(), StatusCode::kCorruption);
  ASSERT_TRUE(FileSystem::Local()->Remove(path).ok());
  EXPECT_EQ(GgufFile::Open(path, FileSystem::Local()).status().code(), StatusCode::kNotFound);
}

TEST(GgufFileTest, ReadsTheModelsOfThisProject) {
  bool has_any = false;
  for (const char* name : {"SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4-k-m.gguf",
                           "gemma-3-270m-q4_k_m.gguf", "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf"}) {
    const std::string path = std::string("models/") + name;
    if (!FileSystem::Local()->Exists(path)) continue;
    has_any = true;
    const auto file = GgufFile::Open(path, FileSystem::Local());
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_FALSE((*file)->GetString("general.architecture")->empty());
    EXPECT_GT((*file)->GetStrings("tokenizer.ggml.tokens")->size(), 1'000U);
    EXPECT_TRUE((*file)->GetTensor("token_embd.weight").ok());
  }
  if (!has_any) GTEST_SKIP() << "no model in models/";
}

}  // namespace
}  // namespace intarsia::model
