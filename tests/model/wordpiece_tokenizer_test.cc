#include "model/wordpiece_tokenizer.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::model {
namespace {

using Ids = std::vector<int32_t>;
constexpr std::string_view kVocabulary =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n##s\nun\n##aff\n##able\n,\n!\n\u4e2d\ne\n"
    "Hello\ni\n\u0131\n";

std::unique_ptr<WordPieceTokenizer> Load(const WordPieceOptions& options = {}) {
  auto tokenizer = WordPieceTokenizer::Load(kVocabulary, options);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

Ids Encode(const WordPieceTokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, SpecialTokens::kAsText);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *ids;
}

TEST(WordPieceTokenizerTest, WordsAreSpelledByTheLongestPieces) {
  const auto tokenizer = Load();
  EXPECT_EQ(Encode(*tokenizer, "Hello, worlds!"), (Ids{5, 11, 6, 7, 12}));
  EXPECT_EQ(Encode(*tokenizer, "unaffable"), (Ids{8, 9, 10}));
  EXPECT_EQ(Encode(*tokenizer, "unaffablex"), Ids{1});
  EXPECT_EQ(Encode(*tokenizer, "\u4e2d\u4e2d"), (Ids{13, 13}));
  EXPECT_EQ(Encode(*tokenizer, "\u00c9 e\u0301 \u0130"), (Ids{14, 14, 16}));
  EXPECT_EQ(Encode(*tokenizer, " \t\n"), Ids{});
}

TEST(WordPieceTokenizerTest, AWordOfMoreThanAHundredCharactersIsUnknown) {
  const auto tokenizer = Load();
  std::string word = "hello";
  while (word.size() < 100) word.push_back('s');
  EXPECT_EQ(Encode(*tokenizer, word).size(), 96U);
  EXPECT_EQ(Encode(*tokenizer, word + "s"), Ids{1});
}

TEST(WordPieceTokenizerTest, CaseAndAccentsStayIfTheOptionsSaySo) {
  WordPieceOptions options;
  options.lower_case = false;
  options.strip_accents = false;
  const auto tokenizer = Load(options);
  EXPECT_EQ(Encode(*tokenizer, "Hello hello \u00e9"), (Ids{15, 5, 1}));
  EXPECT_NE(tokenizer->digest(), Load()->digest());
}

TEST(WordPieceTokenizerTest, NamesOfSpecialTokensArePlainInUserText) {
  const auto tokenizer = Load();
  for (const int32_t id : Encode(*tokenizer, "[CLS] [SEP] [MASK]")) EXPECT_EQ(id, 1);
  EXPECT_EQ(*tokenizer->Encode("[CLS]hello[SEP]", SpecialTokens::kParse), (Ids{2, 5, 3}));
}

TEST(WordPieceTokenizerTest, SequencesAreCutAtTheLimit) {
  const auto tokenizer = Load();
  EXPECT_EQ(*tokenizer->EncodeSequence("hello world hello", 16), (Ids{2, 5, 6, 5, 3}));
  EXPECT_EQ(*tokenizer->EncodeSequence("hello world hello", 4), (Ids{2, 5, 6, 3}));
  EXPECT_EQ(*tokenizer->EncodeSequence("hello", 2), (Ids{2, 3}));
  EXPECT_EQ(tokenizer->EncodeSequence("hello", 1).status().code(), StatusCode::kInvalidArgument);
}

TEST(WordPieceTokenizerTest, TheLongerTextOfAPairIsCutFirst) {
  const auto tokenizer = Load();
  int64_t num_first = 0;
  EXPECT_EQ(*tokenizer->EncodePair("hello", "world world world", 16, &num_first),
            (Ids{2, 5, 3, 6, 6, 6, 3}));
  EXPECT_EQ(num_first, 3);
  EXPECT_EQ(*tokenizer->EncodePair("hello", "world world world", 6, &num_first),
            (Ids{2, 5, 3, 6, 6, 3}));
  EXPECT_EQ(*tokenizer->EncodePair("hello hello hello", "world world", 7, &num_first),
            (Ids{2, 5, 5, 3, 6, 6, 3}));
  EXPECT_EQ(num_first, 4);
  EXPECT_EQ(*tokenizer->EncodePair("hello hello", "world world", 3, nullptr), (Ids{2, 3, 3}));
}

TEST(WordPieceTokenizerTest, RangesPointIntoTheText) {
  const auto tokenizer = Load();
  const auto encoded = tokenizer->EncodeWithRanges("\u00c9 unaffable,\u4e2d zzz");
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(encoded->ranges, (std::vector<TokenRange>{
                                 {0, 2}, {3, 5}, {5, 8}, {8, 12}, {12, 13}, {13, 16}, {17, 20}}));
  EXPECT_EQ(*tokenizer->Decode(encoded->ids), "e unaffable , \u4e2d");
}

TEST(WordPieceTokenizerTest, AVocabularyWithoutItsSpecialTokensIsRefused) {
  EXPECT_EQ(WordPieceTokenizer::Load("", {}).status().code(), StatusCode::kCorruption);
  EXPECT_EQ(WordPieceTokenizer::Load("[UNK]\n[CLS]\nx", {}).status().code(),
            StatusCode::kCorruption);
  const auto windows = WordPieceTokenizer::Load("[UNK]\r\n[CLS]\r\n[SEP]\r\nx\r\n", {});
  ASSERT_TRUE(windows.ok()) << windows.status();
  EXPECT_EQ((*windows)->vocab_size(), 4);
  EXPECT_EQ(Encode(**windows, "x"), Ids{3});
}

}  // namespace
}  // namespace intarsia::model
