#include "base/hash.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

// What other programs say: XXH3-128 by the Python package xxhash, SHA-256 by hashlib over each
// field behind its length as u64.
TEST(ChecksumTest, IsXxh3Of128Bits) {
  std::string counting;
  for (int i = 0; i < 1280; ++i) counting.push_back(static_cast<char>(i % 256));
  EXPECT_EQ(ChecksumOf("").ToHex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(ChecksumOf("abc").ToHex(), "06b05ab6733a618578af5f94892f3950");
  EXPECT_EQ(ChecksumOf(counting).ToHex(), "d92ab3a1cb0542a74844b009e164352e");
}

TEST(ChecksumTest, EveryFlippedBitChangesIt) {
  const std::string original(100, 'x');
  for (size_t bit = 0; bit < original.size() * 8; ++bit) {
    std::string flipped = original;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_NE(ChecksumOf(flipped), ChecksumOf(original)) << bit;
  }
}

TEST(DigestTest, IsSha256OfLengthPrefixedFields) {
  EXPECT_EQ(DigestOf("abc").ToHex(),
            "ce91dc5eec0139adf091900d225971d6ad246a845bad791b5693a9d0d55dd391");
  EXPECT_EQ(DigestOf("").ToHex(),
            "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
  EXPECT_EQ(DigestBuilder().Add("ab").Add("c").Finish().ToHex(),
            "43ee655579de01ca739b3f95c1c2d3f46d353b2c0df818064ea594506cdb2617");
  EXPECT_EQ(DigestBuilder().Add("a").Add("bc").Finish().ToHex(),
            "9a8acca1b6c6c0befd3fbc756aed625da998c998f7252e738c4ef061906b9b21");
  EXPECT_EQ(DigestBuilder().Add(int64_t{-2}).Finish().ToHex(),
            "6d4a2f79fc24ca8aa40c0934df14d907b3082c647da631d78f77572d2e4184d6");
}

TEST(DigestTest, WithoutFieldsItIsSha256OfNothing) {
  EXPECT_EQ(DigestBuilder().Finish().ToHex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(DigestTest, FieldsDoNotRunIntoEachOther) {
  EXPECT_NE(DigestBuilder().Add("ab").Add("c").Finish(),
            DigestBuilder().Add("a").Add("bc").Finish());
  EXPECT_NE(DigestBuilder().Add("abc").Finish(), DigestBuilder().Add("abc").Add("").Finish());
}

TEST(DigestTest, SurvivesItsBytes) {
  const Digest digest = DigestOf("abc");
  const Result<Digest> copy = Digest::FromBytes(digest.view());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(*copy, digest);
}

TEST(DigestTest, RefusesBytesOfAnotherLength) {
  for (const size_t size : {size_t{0}, size_t{31}, size_t{33}}) {
    EXPECT_EQ(Digest::FromBytes(std::string(size, 'x')).status().code(),
              StatusCode::kInvalidArgument)
        << size;
  }
}

}  // namespace
}  // namespace intarsia
