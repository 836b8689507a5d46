// Postings as bytes: what is written is read again, the page about the format is true, and damage
// is an error.
#include <algorithm>
#include <cctype>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/memory_rows.h"
#include "index/page_editor.h"
#include "index/posting_codec.h"
#include "index/text_index_writer.h"
#include "index/text_rows.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::index {
namespace {

// The bytes as "01 02", sixteen a line.
std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
    text += i % 16 == 15 || i + 1 == bytes.size() ? '\n' : ' ';
  }
  return text;
}

TEST(PostingsFormatTest, PackedIntegersOfEveryWidthComeBack) {
  std::mt19937_64 random(1);
  for (int width = 0; width <= 56; ++width) {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{128}}) {
      std::vector<uint64_t> values(count);
      for (uint64_t& value : values) value = random() & ((uint64_t{1} << width) - 1);
      if (count > 0) values[count / 2] = (uint64_t{1} << width) - 1;
      ByteWriter writer;
      WritePacked(values, &writer);
      ByteReader reader(writer.bytes());
      std::vector<uint64_t> read(count);
      ASSERT_TRUE(ReadPacked(&reader, read).ok());
      EXPECT_EQ(read, values);
      EXPECT_EQ(reader.remaining(), 0);
      ByteReader cut(std::string_view(writer.bytes()).substr(0, writer.bytes().size() - 1));
      EXPECT_EQ(ReadPacked(&cut, read).code(), StatusCode::kCorruption);
    }
  }
}

TEST(PostingsFormatTest, VarintsOfEverySizeComeBack) {
  for (int bits = 0; bits <= 64; ++bits) {
    for (const uint64_t value : {bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1,
                                 bits == 64 ? uint64_t{0} : uint64_t{1} << bits}) {
      ByteWriter writer;
      WriteVarint(value, &writer);
      ByteReader reader(writer.bytes());
      EXPECT_EQ(ReadVarint(&reader), value);
      EXPECT_TRUE(reader.status().ok());
    }
  }
  for (const std::string& bytes : {std::string(10, '\xff'), std::string("\x80"), std::string()}) {
    ByteReader reader(bytes);
    EXPECT_EQ(ReadVarint(&reader), 0u);
    EXPECT_FALSE(reader.status().ok());
  }
}

TEST(PostingsFormatTest, BoundsCoverWhatTheyWereMadeOf) {
  ScoreBound bound;
  bound.Include(2, 100);
  bound.Include(1, 10);
  bound.Include(7, 700);
  EXPECT_EQ(bound, (ScoreBound{.max_frequency = 7, .length = 10, .frequency = 1}));
}

TEST(PostingsFormatTest, APageKeepsWhatIsAppendedAndLosesWhatIsRemoved) {
  std::mt19937_64 random(2);
  PageEditor editor;
  std::vector<std::pair<uint64_t, std::vector<uint32_t>>> want;
  uint64_t id = 0;
  while (!editor.is_full()) {
    std::vector<uint32_t> positions;
    for (uint32_t at = static_cast<uint32_t>(random() % 9); positions.size() < 1 + random() % 4;
         at += 1 + static_cast<uint32_t>(random() % 300)) {
      positions.push_back(at);
    }
    id += 1 + random() % (want.size() == 300 ? uint64_t{1} << 40 : 50);
    want.emplace_back(id, positions);
    const NewPosting posting = {.id = id, .length = 77, .positions = want.back().second};
    ASSERT_EQ(*editor.Append({&posting, 1}), 1);
  }
  ASSERT_EQ(std::ssize(want), kBlocksPerPage * kPostingsPerBlock);
  std::vector<uint64_t> removed;
  for (const auto& [chunk, positions] : want) {
    // One block loses everything.
    const bool is_second_block =
        removed.size() < 1'000 && chunk >= want[128].first && chunk <= want[255].first;
    if (is_second_block || random() % 3 == 0) removed.push_back(chunk);
  }
  ASSERT_TRUE(editor.Remove(removed).ok());
  std::erase_if(want, [&](const auto& posting) {
    return std::ranges::binary_search(removed, posting.first);
  });

  const std::string bytes = EncodePage(editor.page());
  const std::string positions = editor.positions();
  ByteReader reader(bytes);
  const auto page = ParsePage(&reader);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(std::ssize(page->blocks), kBlocksPerPage - 1);
  auto expected = want.begin();
  size_t begin = 0;
  for (const PostingBlock& block : page->blocks) {
    std::vector<uint64_t> ids(static_cast<size_t>(block.count));
    std::vector<uint32_t> frequencies(ids.size());
    ASSERT_TRUE(DecodePostings(block, ids, frequencies).ok());
    const auto decoded = DecodePositions(
        std::string_view(positions).substr(begin, static_cast<size_t>(block.position_bytes)),
        frequencies);
    ASSERT_TRUE(decoded.ok());
    begin += static_cast<size_t>(block.position_bytes);
    size_t at = 0;
    for (size_t i = 0; i < ids.size(); ++i, ++expected) {
      ASSERT_EQ(ids[i], expected->first);
      ASSERT_EQ(std::vector<uint32_t>(decoded->begin() + static_cast<int64_t>(at),
                                      decoded->begin() + static_cast<int64_t>(at + frequencies[i])),
                expected->second);
      at += frequencies[i];
    }
  }
  EXPECT_EQ(expected, want.end());
  EXPECT_EQ(editor.Remove(removed).code(), StatusCode::kCorruption);
}

TEST(PostingsFormatTest, ThePageAboutTheFormatIsTrue) {
  const auto analyzer = *TextAnalyzer::Create("english");
  MemoryRows rows;
  TextIndexWriter writer(analyzer.get());
  const std::string_view first[] = {"the old harbour"};
  const std::string_view second[] = {"Harbours and the harbour"};
  writer.Add(7, first);
  writer.Add(9, second);
  ASSERT_TRUE(writer.Finish(rows, &rows).ok());
  const std::string page = storage::ReadFile("docs/formats/postings.md");
  const auto expect = [&](const std::string& key) {
    const auto body = rows.Get(key);
    ASSERT_TRUE(body.ok());
    EXPECT_NE(page.find("```\n" + Hex(key) + "\n" + Hex(*body) + "```"), std::string::npos)
        << "docs/formats/postings.md should hold\n```\n"
        << Hex(key) << "\n"
        << Hex(*body) << "```";
  };
  expect(TermKey("harbour"));
  expect(TermKey("old"));
  expect(WordKey("harbours"));
}

}  // namespace
}  // namespace intarsia::index
