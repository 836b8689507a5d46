#include "base/bytes.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

using namespace std::string_view_literals;

TEST(ByteWriterTest, WritesLittleEndian) {
  ByteWriter writer;
  writer.Write(uint8_t{0xab});
  writer.Write(uint32_t{0x01020304});
  writer.Write(int16_t{-2});
  EXPECT_EQ(writer.bytes(), "\xab\x04\x03\x02\x01\xfe\xff"sv);
  EXPECT_EQ(writer.size(), 7);
  EXPECT_EQ(std::move(writer).TakeBytes().size(), 7u);
}

TEST(ByteWriterTest, PrefixesStringsWithTheirLength) {
  ByteWriter writer;
  writer.WriteString("ab");
  EXPECT_EQ(writer.bytes(), "\x02\0\0\0\0\0\0\0ab"sv);
}

TEST(ByteReaderTest, ReadsBackWhatWasWritten) {
  ByteWriter writer;
  writer.Write(std::numeric_limits<int64_t>::min());
  writer.Write(-0.0f);
  writer.Write(std::numeric_limits<double>::infinity());
  writer.WriteString("");
  writer.WriteString("with \0 inside"sv);
  writer.WriteBytes("tail");

  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.Read<int64_t>(), std::numeric_limits<int64_t>::min());
  EXPECT_TRUE(std::signbit(reader.Read<float>()));
  EXPECT_EQ(reader.Read<double>(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(reader.ReadString(), "");
  EXPECT_EQ(reader.ReadString(), "with \0 inside"sv);
  EXPECT_EQ(reader.ReadBytes(4), "tail");
  EXPECT_EQ(reader.remaining(), 0);
  EXPECT_TRUE(reader.status().ok());
}

TEST(ByteReaderTest, AShortReadFailsForGood) {
  ByteReader reader("abc", "notes.bin");
  EXPECT_EQ(reader.Read<uint8_t>(), 'a');
  EXPECT_EQ(reader.Read<uint32_t>(), 0u);
  EXPECT_TRUE(reader.failed());
  // Two bytes would still be there; a reader that went on would give them a wrong meaning.
  EXPECT_EQ(reader.Read<uint8_t>(), 0);
  EXPECT_EQ(reader.ReadBytes(1), "");
  EXPECT_EQ(reader.ReadString(), "");
  EXPECT_EQ(reader.status().code(), StatusCode::kCorruption);
  EXPECT_EQ(reader.status().message(), "notes.bin ends too early: offset=1 size=3");
}

TEST(ByteReaderTest, ReadingExactlyToTheEndIsFine) {
  ByteReader reader("abcd");
  EXPECT_EQ(reader.Read<uint32_t>(), 0x64636261u);
  EXPECT_EQ(reader.ReadBytes(0), "");
  EXPECT_TRUE(reader.status().ok());
}

TEST(ByteReaderTest, EmptyInputHasNothingToRead) {
  ByteReader reader("");
  EXPECT_EQ(reader.remaining(), 0);
  EXPECT_EQ(reader.Read<uint8_t>(), 0);
  EXPECT_EQ(reader.status().code(), StatusCode::kCorruption);
}

TEST(ByteReaderTest, NegativeAndHugeCountsFail) {
  for (const int64_t num_bytes : {int64_t{-1}, int64_t{5}, std::numeric_limits<int64_t>::max(),
                                  std::numeric_limits<int64_t>::min()}) {
    ByteReader reader("abcd");
    EXPECT_EQ(reader.ReadBytes(num_bytes), "");
    EXPECT_TRUE(reader.failed()) << num_bytes;
  }
}

TEST(ByteReaderTest, AStringLongerThanTheRestFails) {
  for (const uint64_t length : {uint64_t{5}, uint64_t{1} << 63, ~uint64_t{0}}) {
    ByteWriter writer;
    writer.Write(length);
    writer.WriteBytes("abcd");
    ByteReader reader(writer.bytes());
    EXPECT_EQ(reader.ReadString(), "");
    EXPECT_TRUE(reader.failed()) << length;
  }
}

TEST(ByteReaderTest, FinishAsksThatAllWasRead) {
  const std::string bytes = "abcdef";
  ByteReader reader(bytes, "six letters");
  reader.ReadBytes(4);
  const Status left = reader.Finish();
  EXPECT_EQ(left.code(), StatusCode::kCorruption);
  EXPECT_EQ(left.message(), "six letters has bytes left over: offset=4 size=6");
  reader.ReadBytes(2);
  EXPECT_TRUE(reader.Finish().ok());
  reader.ReadBytes(1);
  EXPECT_EQ(reader.Finish().message(), reader.status().message());
}

}  // namespace
}  // namespace intarsia
