// Vectors and codes in a file: what is written is found again, the page about the format is true,
// and no damage is believed.
#include "index/vector_file.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "tests/base/hex_dump.h"
#include "tests/index/clustered_vectors.h"
#include "tests/storage/faulty_file_system.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::index {
namespace {

constexpr int64_t kHeaderBytes = 128;
constexpr int64_t kPageRows = 16;

VectorFileIdentity SampleIdentity() {
  VectorFileIdentity identity;
  for (size_t i = 0; i < identity.database.size(); ++i) {
    identity.database[i] = static_cast<uint8_t>(i);
  }
  identity.collection = 2;
  identity.model = 1;
  identity.generation = 258;
  return identity;
}

class VectorFileTest : public testing::Test {
 protected:
  void Make(int64_t num_rows, int64_t dim, int32_t bits) {
    data_ = MakeClusteredVectors(num_rows, dim, 10, 1);
    std::ranges::sort(data_.ids);
    flat_ = *FlatIndex::Create({.dim = dim, .page_rows = kPageRows});
    ASSERT_TRUE(flat_->Add(data_.ids, data_.rows).ok());
    codes_ = *BinaryIndex::Build(*flat_, {.bits = bits}, nullptr);
    contents_.resize(static_cast<size_t>(num_rows));
    std::iota(contents_.begin(), contents_.end(), 4'000);
  }
  VectorFileParams Params(int64_t begin, int64_t end) const {
    return {.identity = SampleIdentity(),
            .rows = flat_.get(),
            .codes = codes_.get(),
            .begin = begin,
            .end = end,
            .contents = std::span(contents_).subspan(static_cast<size_t>(begin),
                                                     static_cast<size_t>(end - begin))};
  }
  Result<std::shared_ptr<const VectorFile>> Open() { return VectorFile::Open(&files_, path_); }
  StatusCode CodeOf(const std::string& bytes) {
    storage::WriteFile(path_, bytes);
    return Open().status().code();
  }

  storage::TemporaryDirectory folder_;
  storage::FaultyFileSystem files_;
  const std::string path_ = folder_ / "vectors-2-0-64.vec";
  ClusteredVectors data_;
  std::unique_ptr<FlatIndex> flat_;
  std::unique_ptr<BinaryIndex> codes_;
  std::vector<uint64_t> contents_;
};

TEST_F(VectorFileTest, WhatIsWrittenIsFoundAgain) {
  for (const auto& [dim, bits] : {std::pair{int64_t{100}, 1}, std::pair{int64_t{33}, 2}}) {
    Make(100, dim, bits);
    const std::string second = folder_ / "second";
    ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
    ASSERT_TRUE(WriteVectorFile(&files_, second, Params(64, 96)).ok());
    auto flat = *FlatIndex::Create({.dim = dim, .page_rows = kPageRows});
    const auto first = Open();
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ((*first)->header().identity, SampleIdentity());
    auto codes = *BinaryIndex::Restore((*first)->space(), 0);
    for (const std::string& path : {path_, second}) {
      const auto file = VectorFile::Open(&files_, path);
      ASSERT_TRUE(file.ok()) << file.status();
      EXPECT_TRUE((*file)->Verify().ok());
      EXPECT_EQ((*file)->header().first_row, flat->size());
      EXPECT_EQ((*file)->space(), codes_->space());
      EXPECT_EQ((*file)->contents().front(), 4'000U + static_cast<uint64_t>(flat->size()));
      ASSERT_TRUE(flat->AddForeign((*file)->ids(), VectorFile::RowsOf(*file)).ok());
      ASSERT_TRUE(codes->AppendBlocks((*file)->codes(), (*file)->header().num_rows).ok());
    }
    // What is in no file follows, as if nothing had happened.
    ASSERT_TRUE(flat->Add(std::span(data_.ids).subspan(96),
                          std::span(data_.rows).subspan(static_cast<size_t>(96 * dim)))
                    .ok());
    ASSERT_TRUE(codes->Append(*flat, nullptr).ok());
    for (int64_t i = 0; i < data_.num_queries; ++i) {
      const SearchParams params{.query = data_.query(i), .k = 20};
      EXPECT_EQ(*flat->Search(params), *flat_->Search(params));
      EXPECT_EQ(codes->Search(*flat, params, {})->hits, codes_->Search(*flat_, params, {})->hits);
    }
    EXPECT_FALSE(flat->is_damaged());
  }
}

TEST_F(VectorFileTest, AFileOutlivesItsNameAsLongAsItsVectorsAreUsed) {
  Make(64, 40, 1);
  ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
  auto flat = *FlatIndex::Create({.dim = 40, .page_rows = kPageRows});
  {
    const auto file = Open();
    ASSERT_TRUE(flat->AddForeign((*file)->ids(), VectorFile::RowsOf(*file)).ok());
  }
  ASSERT_TRUE(files_.Remove(path_).ok());
  const SearchParams params{.query = data_.query(0), .k = 20};
  EXPECT_EQ(*flat->Search(params), *flat_->Search(params));
}

TEST_F(VectorFileTest, EveryFlippedBitIsNoticed) {
  Make(64, 10, 2);
  ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
  const std::string bytes = storage::ReadFile(path_);
  const auto vectors = static_cast<size_t>(std::ssize(bytes) - 64 * 10 * 4);
  EXPECT_EQ(vectors % 4'096, 0U);
  for (size_t i = 0; i < bytes.size(); i += i < 256 ? 1 : 13) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    if (i < vectors) {
      ASSERT_EQ(CodeOf(damaged), StatusCode::kCorruption) << i;
      continue;
    }
    ASSERT_EQ(CodeOf(damaged), StatusCode::kOk) << i;
    const auto file = Open();
    EXPECT_EQ((*file)->Verify().code(), StatusCode::kCorruption) << i;
    auto flat = *FlatIndex::Create({.dim = 10, .page_rows = kPageRows});
    ASSERT_TRUE(flat->AddForeign((*file)->ids(), VectorFile::RowsOf(*file)).ok());
    EXPECT_EQ(flat->Search({.query = data_.query(0)}).status().code(), StatusCode::kCorruption);
    // What was damaged is not given a checksum of its own by writing it again.
    const std::string copy = folder_ / "copy";
    VectorFileParams params = Params(0, 64);
    params.rows = flat.get();
    EXPECT_EQ(WriteVectorFile(&files_, copy, params).code(), StatusCode::kCorruption);
    EXPECT_FALSE(files_.Exists(copy));
  }
}

TEST_F(VectorFileTest, EveryOtherLengthIsRefused) {
  Make(64, 10, 1);
  ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
  const std::string bytes = storage::ReadFile(path_);
  for (size_t length = 0; length < bytes.size(); length += length < 300 ? 1 : 61) {
    ASSERT_EQ(CodeOf(bytes.substr(0, length)), StatusCode::kCorruption) << length;
  }
  EXPECT_EQ(CodeOf(bytes + '\0'), StatusCode::kCorruption);
  EXPECT_EQ(CodeOf(bytes), StatusCode::kOk);
}

// Numbers that no program of ours wrote, behind a checksum that fits.
TEST_F(VectorFileTest, HostileHeadersAreRefused) {
  Make(64, 10, 1);
  ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
  const std::string bytes = storage::ReadFile(path_);
  const auto with = [&](size_t offset, auto value) {
    ByteWriter number;
    number.Write(value);
    std::string changed = bytes;
    changed.replace(offset, sizeof(value), number.bytes());
    ByteWriter seal;
    const Checksum checksum = ChecksumOf(std::string_view(changed).substr(0, kHeaderBytes - 16));
    seal.Write(checksum.low);
    seal.Write(checksum.high);
    changed.replace(kHeaderBytes - 16, 16, seal.bytes());
    return changed;
  };
  EXPECT_EQ(CodeOf(with(4, uint32_t{2})), StatusCode::kUnsupported);
  for (const int64_t value : {int64_t{-1}, int64_t{0}, int64_t{7}, int64_t{72}, int64_t{1} << 32,
                              int64_t{1} << 61, int64_t{-8}, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(CodeOf(with(56, value)), StatusCode::kCorruption) << "rows " << value;
    EXPECT_EQ(CodeOf(with(64, value)), StatusCode::kCorruption) << "dim " << value;
  }
  EXPECT_EQ(CodeOf(with(48, int64_t{-1})), StatusCode::kCorruption);
  EXPECT_EQ(CodeOf(with(72, uint32_t{2})), StatusCode::kCorruption);
  for (const int32_t bits : {-1, 0, 3, 1 << 30}) {
    EXPECT_EQ(CodeOf(with(76, bits)), StatusCode::kCorruption) << bits;
  }
  EXPECT_EQ(CodeOf(with(88, int64_t{-1})), StatusCode::kCorruption);
  // Other numbers are for whoever knows which he wants.
  EXPECT_EQ(CodeOf(with(24, uint64_t{3})), StatusCode::kOk);
  EXPECT_EQ((*Open())->header().identity.collection, 3U);
}

TEST_F(VectorFileTest, NothingIsLeftOfAFileThatCannotBeWritten) {
  Make(64, 10, 1);
  for (const int64_t granted : {0, 100, 128, 1'000, 4'100}) {
    files_.Grant(granted);
    EXPECT_EQ(WriteVectorFile(&files_, path_, Params(0, 64)).code(),
              StatusCode::kResourceExhausted);
    EXPECT_TRUE(files_.List(folder_ / "")->empty());
  }
  files_.GrantAll();
  files_.GrantRenames(0);
  EXPECT_EQ(WriteVectorFile(&files_, path_, Params(0, 64)).code(), StatusCode::kIo);
  EXPECT_TRUE(files_.List(folder_ / "")->empty());
  files_.GrantRenames(2);
  files_.GrantFolderSyncs(0);
  EXPECT_EQ(WriteVectorFile(&files_, path_, Params(0, 64)).code(), StatusCode::kIo);
  EXPECT_TRUE(files_.List(folder_ / "")->empty());
  files_.GrantFolderSyncs(1);
  // What a process that was killed has left is in nobody's way.
  storage::WriteFile(UnfinishedVectorFile(path_), "half of it");
  EXPECT_TRUE(WriteVectorFile(&files_, path_, Params(0, 64)).ok());
  EXPECT_TRUE((*Open())->Verify().ok());
  EXPECT_EQ(files_.List(folder_ / "")->size(), 1U);
}

TEST_F(VectorFileTest, BadRowsAreNotWritten) {
  Make(64, 10, 1);
  const auto code = [&](const VectorFileParams& params) {
    return WriteVectorFile(&files_, path_, params).code();
  };
  EXPECT_EQ(code(Params(8, 8)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Params(4, 16)), StatusCode::kInvalidArgument);
  VectorFileParams params = Params(0, 64);
  params.end = 72;
  EXPECT_EQ(code(params), StatusCode::kInvalidArgument);
  params = Params(0, 64);
  params.contents = params.contents.first(63);
  EXPECT_EQ(code(params), StatusCode::kInvalidArgument);
  // Ids that do not ascend.
  auto flat = *FlatIndex::Create({.dim = 10, .page_rows = kPageRows});
  std::swap(data_.ids[3], data_.ids[4]);
  ASSERT_TRUE(flat->Add(data_.ids, data_.rows).ok());
  params = Params(0, 64);
  params.rows = flat.get();
  EXPECT_EQ(code(params), StatusCode::kInvalidArgument);
  EXPECT_TRUE(files_.List(folder_ / "")->empty());
}

TEST_F(VectorFileTest, ThePageAboutTheFormatIsTrue) {
  // Eight vectors that are alike: they lie at their centre, so that all factors are 0.
  flat_ = *FlatIndex::Create({.dim = 2, .page_rows = 8});
  std::vector<uint64_t> ids(8);
  std::iota(ids.begin(), ids.end(), 7);
  std::vector<float> rows;
  for (int i = 0; i < 8; ++i) rows.insert(rows.end(), {1.0F, 0.0F});
  ASSERT_TRUE(flat_->Add(ids, rows).ok());
  codes_ = *BinaryIndex::Build(*flat_, {.bits = 1}, nullptr);
  contents_.assign(8, 0x1122334455667788U);
  ASSERT_TRUE(WriteVectorFile(&files_, path_, Params(0, 8)).ok());
  const std::string bytes = storage::ReadFile(path_);
  ASSERT_EQ(bytes.size(), 4'160U);
  const std::string example = Dump(std::string_view(bytes).substr(0, 488)) + "...\n" +
                              Dump(std::string_view(bytes).substr(4'096));
  const std::string page = storage::ReadFile("docs/formats/vector_file.md");
  EXPECT_NE(page.find("```\n" + example + "```"), std::string::npos)
      << "docs/formats/vector_file.md should hold\n```\n"
      << example << "```";
}

}  // namespace
}  // namespace intarsia::index
