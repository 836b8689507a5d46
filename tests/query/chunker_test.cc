#include "query/chunker.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/query/random_documents.h"
#include "tests/query/word_counter.h"

namespace intarsia::query {
namespace {

ExtractedText Extract(std::string_view source, std::string_view hint = "a.md") {
  Result<ExtractedText> result = ExtractText(source, hint, {});
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : ExtractedText{};
}

std::vector<ChunkSpan> Chunk(const ExtractedText& document, const ChunkerOptions& options) {
  Result<std::vector<ChunkSpan>> result = ChunkText(document, options, CountWords);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : std::vector<ChunkSpan>{};
}

std::vector<std::string> TextsOf(const ExtractedText& document, const ChunkerOptions& options) {
  std::vector<std::string> texts;
  for (const ChunkSpan& chunk : Chunk(document, options)) {
    texts.emplace_back(chunk.range.Of(document.text));
  }
  return texts;
}

std::string Words(int64_t count, std::string_view word) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) text.append(word).push_back(' ');
  text.pop_back();
  return text;
}

// Chunks cover each visible byte once (more often only with an overlap) and keep the budget.
void CheckCoverage(const ExtractedText& document, const ChunkerOptions& options) {
  const std::vector<ChunkSpan> chunks = Chunk(document, options);
  std::vector<int> covered(document.text.size(), 0);
  int64_t before_begin = -1;
  int64_t before_end = -1;
  for (const ChunkSpan& chunk : chunks) {
    ASSERT_LT(before_begin, chunk.range.begin);
    ASSERT_LT(before_end, chunk.range.end);
    ASSERT_LT(chunk.range.begin, chunk.range.end);
    before_begin = chunk.range.begin;
    before_end = chunk.range.end;
    const std::string_view text = chunk.range.Of(document.text);
    ASSERT_LT(FindInvalidUtf8(text), 0);
    ASSERT_FALSE(IsBlankByte(text.back()));
    ASSERT_EQ(chunk.num_tokens, CountWords(text));
    ASSERT_LE(chunk.num_tokens, options.chunk_tokens);
    for (int64_t i = chunk.range.begin; i < chunk.range.end; ++i) ++covered[static_cast<size_t>(i)];
  }
  for (size_t i = 0; i < covered.size(); ++i) {
    if (IsBlankByte(document.text[i])) continue;
    ASSERT_GE(covered[i], 1) << "byte " << i;
    if (options.overlap_tokens == 0) {
      ASSERT_EQ(covered[i], 1) << "byte " << i;
    }
  }
}

TEST(ChunkerTest, RandomDocumentsAreCoveredOnceWithinTheBudget) {
  RandomDocuments documents(3);
  for (int round = 0; round < 1'500; ++round) {
    const bool is_html = round % 3 == 0;
    const std::string source = is_html ? documents.Html() : documents.Markdown();
    const auto document = ExtractText(source, is_html ? "a.html" : "a.md", {});
    if (!document.ok()) continue;
    SCOPED_TRACE(source);
    for (const ChunkerKind kind : {ChunkerKind::kStructure, ChunkerKind::kFixed}) {
      for (const int64_t overlap : {0, 7}) {
        ChunkerOptions options;
        options.kind = kind;
        options.chunk_tokens = 16 + round % 90;
        options.min_tokens = options.chunk_tokens / 4;
        options.overlap_tokens = overlap;
        CheckCoverage(*document, options);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ChunkerTest, EqualInputGivesEqualChunks) {
  RandomDocuments documents(4);
  for (int round = 0; round < 50; ++round) {
    const auto document = ExtractText(documents.Markdown() + "x", "a.md", {});
    ASSERT_TRUE(document.ok());
    const auto first = Chunk(*document, {});
    const auto second = Chunk(*document, {});
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].range, second[i].range);
  }
}

TEST(ChunkerTest, AHeadingStaysWithItsText) {
  const ExtractedText document =
      Extract("# A\n\n" + Words(30, "a") + "\n\n## B\n\n### C\n\n" + Words(30, "c") + "\n");
  const auto texts = TextsOf(document, {.chunk_tokens = 36, .min_tokens = 5});
  ASSERT_EQ(texts.size(), 3U);
  EXPECT_EQ(texts[0], "# A\n\n" + Words(30, "a"));
  EXPECT_EQ(texts[1].substr(0, 39), "## B\n\n### C\n\n" + Words(13, "c") + " ");
  EXPECT_EQ(texts[2].front(), 'c');
}

TEST(ChunkerTest, HeadingPathsNameTheSectionThatHoldsTheChunk) {
  const ExtractedText document = Extract("# A\n\n" + Words(30, "a") + "\n\n## B\n\n" +
                                         Words(30, "b") + "\n\n## C\n\nc\n\n## D\n\nd\n");
  const auto chunks = Chunk(document, {.chunk_tokens = 48, .min_tokens = 10});
  ASSERT_EQ(chunks.size(), 2U);
  EXPECT_EQ(chunks[0].heading_path, "A");
  EXPECT_EQ(chunks[1].heading_path, "A");  // B with the small C and D.
  const auto apart = Chunk(document, {.chunk_tokens = 40, .min_tokens = 0});
  ASSERT_EQ(apart.size(), 4U);
  EXPECT_EQ(apart[1].heading_path, "A > B");
  EXPECT_EQ(apart[3].heading_path, "A > D");
}

TEST(ChunkerTest, CodeAndTablesAreKeptWholeIfTheyFit) {
  const std::string code = "```\n" + Words(10, "x") + "\n\n" + Words(10, "y") + "\n```";
  const std::string table = "| a | b |\n|---|---|\n| c | d |";
  const ExtractedText document =
      Extract(Words(25, "p") + ".\n\n" + code + "\n\n" + Words(25, "q") + ".\n\n" + table + "\n");
  EXPECT_EQ(TextsOf(document, {.chunk_tokens = 40, .min_tokens = 1}),
            (std::vector<std::string>{Words(25, "p") + ".", code, Words(25, "q") + ".", table}));
}

TEST(ChunkerTest, ALongTableIsCutAtLineEnds) {
  std::string table = "| a | b |\n|---|---|\n";
  for (int i = 0; i < 40; ++i) table += "| c | d |\n";
  const ExtractedText document = Extract(table);
  for (const std::string& text : TextsOf(document, {.chunk_tokens = 60, .min_tokens = 10})) {
    EXPECT_EQ(text.front(), '|');
    EXPECT_EQ(text.back(), '|');
  }
}

TEST(ChunkerTest, ALongParagraphIsCutBetweenSentences) {
  std::string paragraph;
  for (int i = 0; i < 30; ++i) paragraph += "This is sentence number x of them. ";
  const auto texts = TextsOf(Extract(paragraph), {.chunk_tokens = 50, .min_tokens = 10});
  EXPECT_GT(texts.size(), 4U);
  for (const std::string& text : texts) {
    EXPECT_EQ(text.substr(0, 4), "This");
    EXPECT_EQ(text.back(), '.');
  }
}

TEST(ChunkerTest, ALeadInStaysWithItsListAndACaptionWithItsTable) {
  const ExtractedText list =
      Extract(Words(30, "p") + ".\n\nConsider:\n\n- " + Words(20, "i") + "\n");
  EXPECT_EQ(TextsOf(list, {.chunk_tokens = 40, .min_tokens = 1})[1],
            "Consider:\n\n- " + Words(20, "i"));
  const ExtractedText table =
      Extract(Words(30, "p") + ".\n\nTable 1. Sizes.\n\n| a | b |\n|---|---|\n| c | d |\n");
  EXPECT_EQ(TextsOf(table, {.chunk_tokens = 40, .min_tokens = 1})[1].substr(0, 8), "Table 1.");
}

TEST(ChunkerTest, ASmallRestIsEvenedOut) {
  std::string text;
  for (int i = 0; i < 11; ++i) text += Words(10, "w") + ".\n\n";
  for (const ChunkSpan& chunk : Chunk(Extract(text), {.chunk_tokens = 110, .min_tokens = 40})) {
    EXPECT_GE(chunk.num_tokens, 40);
  }
}

TEST(ChunkerTest, AWordLargerThanAChunkIsCutBetweenCodePoints) {
  std::string word;
  for (int i = 0; i < 5'000; ++i) word += "漢";
  // A token for each code point, as byte-level tokenizers come close to.
  const TokenCounter count = [](std::string_view text) { return CountCodePoints(text); };
  const ExtractedText document = Extract(word, "a.txt");
  const auto chunks = ChunkText(document, {.chunk_tokens = 100}, count);
  ASSERT_TRUE(chunks.ok());
  int64_t at = 0;
  for (const ChunkSpan& chunk : *chunks) {
    EXPECT_EQ(chunk.range.begin, at);
    EXPECT_LE(chunk.num_tokens, 100);
    EXPECT_EQ(chunk.range.size() % 3, 0);
    at = chunk.range.end;
  }
  EXPECT_EQ(at, 15'000);
}

TEST(ChunkerTest, ABudgetBelowOneCodePointStillEnds) {
  const TokenCounter count = [](std::string_view text) {
    return static_cast<int64_t>(text.size()) * 100;
  };
  const ExtractedText document = Extract("ab 漢", "a.txt");
  for (const ChunkerKind kind : {ChunkerKind::kStructure, ChunkerKind::kFixed}) {
    const auto chunks =
        ChunkText(document, {.kind = kind, .chunk_tokens = 16, .min_tokens = 0}, count);
    ASSERT_TRUE(chunks.ok());
    EXPECT_EQ(chunks->size(), 3U);
  }
}

TEST(ChunkerTest, FixedChunksOverlapAsAsked) {
  const ExtractedText document = Extract(Words(500, "w"), "a.txt");
  const ChunkerOptions options{
      .kind = ChunkerKind::kFixed, .chunk_tokens = 64, .overlap_tokens = 16};
  const auto chunks = Chunk(document, options);
  for (size_t i = 1; i < chunks.size(); ++i) {
    const int64_t overlap = chunks[i - 1].range.end - chunks[i].range.begin;
    EXPECT_GE(overlap, 2 * 12);  // Words of two bytes, in units of three.
    EXPECT_LE(overlap, 2 * 16);
  }
}

TEST(ChunkerTest, SignaturesNameAllThatMatters) {
  EXPECT_EQ(ChunkerSignature({}), "structure/1 chunk_tokens=384 overlap_tokens=0 min_tokens=96");
  EXPECT_EQ(
      ChunkerSignature({.kind = ChunkerKind::kFixed, .chunk_tokens = 256, .overlap_tokens = 32}),
      "fixed/1 chunk_tokens=256 overlap_tokens=32");
}

TEST(ChunkerTest, OptionsOutOfRangeAreRefused) {
  const ExtractedText document = Extract("x");
  for (const ChunkerOptions& options :
       {ChunkerOptions{.chunk_tokens = 15}, ChunkerOptions{.chunk_tokens = 70'000},
        ChunkerOptions{.chunk_tokens = 100, .overlap_tokens = 51},
        ChunkerOptions{.chunk_tokens = 100, .overlap_tokens = -1},
        ChunkerOptions{.chunk_tokens = 64, .min_tokens = 65}}) {
    EXPECT_EQ(ChunkText(document, options, CountWords).status().code(),
              StatusCode::kInvalidArgument);
  }
}

// The bytes that the counter sees per byte of text.
double CountedShare(const ExtractedText& document, ChunkerKind kind) {
  int64_t num_bytes = 0;
  const TokenCounter count = [&](std::string_view text) {
    num_bytes += static_cast<int64_t>(text.size());
    EXPECT_LE(text.size(), 8'192U);
    return CountWords(text);
  };
  EXPECT_TRUE(ChunkText(document, {.kind = kind}, count).ok());
  return static_cast<double>(num_bytes) / static_cast<double>(document.text.size());
}

// Work is counted, not timed: bytes that the counter of tokens was given.
TEST(ChunkerTest, HugeDocumentsTakeLinearWork) {
  constexpr size_t kSize = size_t{2} << 20;
  for (const std::string_view unit : {"Lorem ipsum dolor sit amet. ", "a\n\n",
                                      "# h\n\nbody text\n\n", "x", "- i\n", "w ", "| a | b |\n"}) {
    SCOPED_TRACE(unit);
    std::string source;
    while (source.size() < kSize) source += unit;
    const ExtractedText document = Extract(source);
    for (const ChunkerKind kind : {ChunkerKind::kStructure, ChunkerKind::kFixed}) {
      EXPECT_LT(CountedShare(document, kind), 16.0);
    }
  }
}

}  // namespace
}  // namespace intarsia::query
