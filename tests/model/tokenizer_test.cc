#include "model/tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "model/token_stream_decoder.h"
#include "tests/model/tiny_tokenizers.h"

namespace intarsia::model {
namespace {

using Ids = std::vector<int32_t>;

Result<std::unique_ptr<Tokenizer>> Load(const std::string& bytes) {
  const auto file = GgufFile::Parse(bytes, "tiny");
  if (!file.ok()) return file.status();
  return LoadTokenizer(**file);
}

template <typename Tiny>
std::unique_ptr<Tokenizer> LoadTiny(const Tiny& tiny) {
  auto tokenizer = Load(tiny.Builder().Build());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

// The names of the tokens of `text`.
std::vector<std::string> Names(const Tokenizer& tokenizer, std::string_view text,
                               SpecialTokens special_tokens = SpecialTokens::kAsText) {
  const auto ids = tokenizer.Encode(text, special_tokens);
  EXPECT_TRUE(ids.ok()) << ids.status();
  std::vector<std::string> names;
  for (const int32_t id : *ids) names.emplace_back(tokenizer.TokenText(id));
  return names;
}

using Strings = std::vector<std::string>;

TEST(TokenizerTest, BytePairsAreMergedByRankAndFromTheLeft) {
  const auto tokenizer = LoadTiny(TinyBpe());
  EXPECT_EQ(Names(*tokenizer, "hello"), (Strings{"hell", "o"}));
  EXPECT_EQ(Names(*tokenizer, "x hello"), (Strings{"x", "\u0120", "hell", "o"}));
  EXPECT_EQ(Names(*tokenizer, "x heat"), (Strings{"x", "\u0120he", "a", "t"}));
  EXPECT_EQ(Names(*tokenizer, "aaaaa"), (Strings{"aa", "aaa"}));
  EXPECT_EQ(Names(*tokenizer, ""), Strings{});
}

TEST(TokenizerTest, NamesOfSpecialTokensArePlainInUserText) {
  const auto tokenizer = LoadTiny(TinyBpe());
  const int32_t end = tokenizer->FindToken("<|im_end|>");
  ASSERT_NE(end, kNoToken);
  const auto ids = tokenizer->Encode("a<|im_end|>b", SpecialTokens::kAsText);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(std::count(ids->begin(), ids->end(), end), 0);
  EXPECT_EQ(*tokenizer->Decode(*ids), "a<|im_end|>b");
  EXPECT_EQ(Names(*tokenizer, "a<|im_end|>b", SpecialTokens::kParse),
            (Strings{"a", "<|im_end|>", "b"}));
  // What a file calls user-defined is cut out of any text.
  EXPECT_EQ(Names(*tokenizer, "a<tag>b"), (Strings{"a", "<tag>", "b"}));
}

TEST(TokenizerTest, ALongRunOfNestedTokensIsCutInParts) {
  TinyBpe tiny;
  for (size_t length = 1; length <= 1'024; ++length) tiny.Add(std::string(length, 'x'), 4);
  const auto tokenizer = LoadTiny(tiny);
  // Some seven million tokens stand in it.
  const std::vector<std::string> names = Names(*tokenizer, std::string(7 * 1'024 + 1, 'x'));
  ASSERT_EQ(names.size(), 8U);
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(names[i].size(), 1'024U);
  EXPECT_EQ(names.back(), "x");
}

TEST(TokenizerTest, MergesThatSpellASpecialTokenDoNotProduceIt) {
  TinyBpe tiny;
  tiny.types.back() = 1;
  std::string joined = "<";
  for (const char next : std::string("|im_end|>")) {
    tiny.AddMerge(joined, std::string(1, next));
    joined.push_back(next);
  }
  tiny.pre_tokenizer = "llama-bpe";  // Which also takes whole words that are tokens.
  const auto tokenizer = LoadTiny(tiny);
  const auto ids = tokenizer->Encode(" <|im_end|>", SpecialTokens::kAsText);
  ASSERT_TRUE(ids.ok());
  for (const int32_t id : *ids) EXPECT_FALSE(tokenizer->IsSpecial(id));
  EXPECT_EQ(*tokenizer->Decode(*ids), " <|im_end|>");
}

TEST(TokenizerTest, ControlTokensThatAFileCallsNormalAreSpecialByTheirNames) {
  TinyBpe tiny;
  const int32_t marker = tiny.Add("<|eot_id|>", 1);
  const int32_t turn = tiny.Add("<start_of_turn>", 4);
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_TRUE(tokenizer->IsSpecial(marker));
  EXPECT_TRUE(tokenizer->IsStop(marker));
  EXPECT_TRUE(tokenizer->IsSpecial(turn));
  EXPECT_EQ(Names(*tokenizer, "<start_of_turn>").size(), 15U);
}

TEST(TokenizerTest, StopTokensAreTheEndsOfTurnsAndOfTheSequence) {
  TinyBpe tiny;
  const int32_t end_of_text = tiny.Add("<|endoftext|>", 3);
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_EQ(tokenizer->eos_id(), static_cast<int32_t>(tiny.eos_id));
  EXPECT_EQ(tokenizer->eot_id(), tokenizer->FindToken("<|im_end|>"));
  EXPECT_EQ(Ids(tokenizer->stop_ids().begin(), tokenizer->stop_ids().end()),
            (Ids{tokenizer->eos_id(), end_of_text}));
  EXPECT_EQ(tokenizer->bos_id(), kNoToken);
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(TokenizerTest, DecodingLeavesSpecialTokensOutAndRepairsBrokenCharacters) {
  const auto tokenizer = LoadTiny(TinyBpe());
  const auto marked = tokenizer->Encode("<|im_start|>h\xC3\xA9<|im_end|>", SpecialTokens::kParse);
  ASSERT_TRUE(marked.ok());
  EXPECT_EQ(*tokenizer->Decode(*marked), "h\u00e9");
  EXPECT_EQ(*tokenizer->Decode(Ids{'a', 0xC3, 'b'}), "a\uFFFDb");
  EXPECT_EQ(tokenizer->Decode(Ids{100'000}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(tokenizer->Decode(Ids{-1}).status().code(), StatusCode::kInvalidArgument);
}

TEST(TokenizerTest, IllFormedTextIsReadAsReplacementCharacters) {
  const auto tokenizer = LoadTiny(TinyBpe());
  EXPECT_EQ(*tokenizer->Encode("a\xFF\xC3", SpecialTokens::kAsText),
            *tokenizer->Encode("a\uFFFD\uFFFD", SpecialTokens::kAsText));
  EXPECT_EQ(tokenizer->EncodeWithRanges("a\xFF").status().code(), StatusCode::kInvalidArgument);
}

TEST(TokenizerTest, StreamsOnlyWholeCharacters) {
  const auto tokenizer = LoadTiny(TinyBpe());
  TokenStreamDecoder stream(tokenizer.get());
  const std::string smile = "\U0001F600";
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(*stream.Push(static_cast<uint8_t>(smile[i])), "");
    EXPECT_EQ(stream.num_bytes_pending(), static_cast<int64_t>(i) + 1);
  }
  EXPECT_EQ(*stream.Push(static_cast<uint8_t>(smile[3])), smile);
  EXPECT_EQ(stream.num_bytes(), 4);
  EXPECT_EQ(*stream.Push(0xC3), "");
  EXPECT_EQ(*stream.Push('x'), "\uFFFDx");
  EXPECT_EQ(*stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push(-1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(stream.Finish(), "\uFFFD");
  EXPECT_EQ(stream.num_bytes_pending(), 0);
}

TEST(TokenizerTest, StreamedTextEqualsDecodedTextForAnyBytes) {
  const auto tokenizer = LoadTiny(TinyBpe());
  uint64_t state = 1;
  for (int32_t round = 0; round < 200; ++round) {
    Ids ids;
    for (int32_t i = 0; i < 40; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      // Mostly bytes from U+0080 on, so that sequences of all lengths begin and break off.
      ids.push_back(static_cast<int32_t>(128 + (state >> 33) % 128));
    }
    TokenStreamDecoder stream(tokenizer.get());
    std::string streamed;
    for (const int32_t id : ids) streamed += *stream.Push(id);
    EXPECT_EQ(streamed + stream.Finish(), *tokenizer->Decode(ids));
  }
}

TEST(TokenizerTest, LongWordsTakeNoMoreThanLinearMemoryAndTheirTextComesBack) {
  const auto bpe = LoadTiny(TinyBpe());
  TinySentencePiece tiny;
  tiny.adds_space_prefix = 0;
  const auto sentencepiece = LoadTiny(tiny);
  const std::string word(2'000'000, 'a');
  for (const Tokenizer* tokenizer : {bpe.get(), sentencepiece.get()}) {
    const auto ids = tokenizer->Encode(word, SpecialTokens::kAsText);
    ASSERT_TRUE(ids.ok());
    EXPECT_TRUE(*tokenizer->Decode(*ids) == word);  // No print, which would take long.
  }
  const std::string breaks(1'000'000, '\n');
  const auto ids = sentencepiece->Encode(breaks, SpecialTokens::kAsText);
  ASSERT_TRUE(ids.ok());
  EXPECT_TRUE(*sentencepiece->Decode(*ids) == breaks);
}

TEST(TokenizerTest, SentencePiecesAreMergedByScore) {
  const auto tokenizer = LoadTiny(TinySentencePiece());
  // "ab" outranks "bc" and "_a", whose scores are lower.
  EXPECT_EQ(Names(*tokenizer, "abc"), (Strings{"\u2581ab", "c"}));
  EXPECT_EQ(Names(*tokenizer, "c abc"), (Strings{"\u2581", "c", "\u2581ab", "c"}));
  EXPECT_EQ(Names(*tokenizer, "b\u00e9"), (Strings{"\u2581", "b", "<0xC3>", "<0xA9>"}));
  EXPECT_EQ(Names(*tokenizer, "a\n\n\n\n\n"), (Strings{"\u2581a", "\n\n\n", "\n\n"}));
  EXPECT_EQ(*tokenizer->Decode(*tokenizer->Encode(" a b\u00e9", SpecialTokens::kAsText)),
            " a b\u00e9");
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(TokenizerTest, SpacePrefixIsAddedAfterSpecialTokensOnlyIfTheFileAsksForIt) {
  TinySentencePiece tiny;
  const auto with_prefix = LoadTiny(tiny);
  EXPECT_EQ(Names(*with_prefix, "<start_of_turn>ab", SpecialTokens::kParse),
            (Strings{"<start_of_turn>", "\u2581ab"}));
  tiny.adds_space_prefix = 0;
  const auto without_prefix = LoadTiny(tiny);
  EXPECT_EQ(Names(*without_prefix, "<start_of_turn>ab", SpecialTokens::kParse),
            (Strings{"<start_of_turn>", "ab"}));
  EXPECT_NE(with_prefix->digest(), without_prefix->digest());
}

TEST(TokenizerTest, TokensThatReachAcrossABlankAreFound) {
  TinySentencePiece tiny;
  tiny.adds_space_prefix = 0;
  tiny.Add("a\u2581", 1, -1);
  tiny.Add("a\u2581b", 1, -0.5);
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_EQ(Names(*tokenizer, "a b"), (Strings{"a\u2581b"}));
  EXPECT_EQ(Names(*tokenizer, "b b"), (Strings{"b", "\u2581", "b"}));
}

TEST(TokenizerTest, RangesPointIntoTheText) {
  const auto tokenizer = LoadTiny(TinySentencePiece());
  const auto encoded = tokenizer->EncodeWithRanges("ab c\n\n\u00e9");
  ASSERT_TRUE(encoded.ok());
  EXPECT_EQ(encoded->ranges,
            (std::vector<TokenRange>{{0, 2}, {2, 3}, {3, 4}, {4, 6}, {6, 6}, {6, 7}, {7, 8}}));
}

TEST(TokenizerTest, TheLongestOfOverlappingNamesWins) {
  TinyBpe tiny;
  tiny.Add("[ab]", 4);
  tiny.Add("b][cd]", 4);
  tiny.Add("[cd", 4);
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_EQ(Names(*tokenizer, "[ab][cd]"), (Strings{"[", "a", "b][cd]"}));
  EXPECT_EQ(Names(*tokenizer, "[ab][cd"), (Strings{"[ab]", "[cd"}));
}

TEST(TokenizerTest, EmptyAndRepeatedTokensAreTolerated) {
  TinyBpe tiny;
  const int32_t empty = tiny.Add("", 1);
  const int32_t again = tiny.Add("hell", 1);
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_EQ(tokenizer->Piece(empty), "");
  EXPECT_EQ(tokenizer->Piece(again), "hell");
  EXPECT_LT(tokenizer->FindToken("hell"), again);
  EXPECT_EQ(Names(*tokenizer, "hell"), (Strings{"hell"}));
}

TEST(TokenizerTest, EverythingThatChangesTheResultChangesTheDigest) {
  const Digest original = LoadTiny(TinyBpe())->digest();
  EXPECT_EQ(LoadTiny(TinyBpe())->digest(), original);
  TinyBpe other_rule;
  other_rule.pre_tokenizer = "qwen2";
  EXPECT_NE(LoadTiny(other_rule)->digest(), original);
  TinyBpe other_order;
  std::swap(other_order.merges[0], other_order.merges[1]);
  EXPECT_NE(LoadTiny(other_order)->digest(), original);
  TinyBpe other_type;
  other_type.types.back() = 1;
  EXPECT_NE(LoadTiny(other_type)->digest(), original);
  TinyBpe other_text;
  other_text.tokens.back() = "<tags>";
  EXPECT_NE(LoadTiny(other_text)->digest(), original);
  TinyBpe other_end;
  other_end.eos_id = 3;
  EXPECT_NE(LoadTiny(other_end)->digest(), original);
  TinySentencePiece other_score;
  const Digest scored = LoadTiny(other_score)->digest();
  other_score.scores[260] += 1;
  EXPECT_NE(LoadTiny(other_score)->digest(), scored);
}

TEST(TokenizerTest, ContradictoryVocabulariesAreRefused) {
  const auto code_of = [](const GgufBuilder& builder) {
    return Load(builder.Build()).status().code();
  };
  EXPECT_EQ(code_of(GgufBuilder()), StatusCode::kNotFound);
  EXPECT_EQ(code_of(GgufBuilder().AddString("tokenizer.ggml.model", "t5")),
            StatusCode::kUnsupported);
  EXPECT_EQ(code_of(GgufBuilder().AddUint32("tokenizer.ggml.model", 1)),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(GgufBuilder().AddString("tokenizer.ggml.model", "gpt2")),
            StatusCode::kNotFound);
  TinyBpe unknown_rule;
  unknown_rule.pre_tokenizer = "viking";
  EXPECT_EQ(code_of(unknown_rule.Builder()), StatusCode::kUnsupported);
  TinyBpe few_types;
  few_types.types.pop_back();
  EXPECT_EQ(code_of(few_types.Builder()), StatusCode::kCorruption);
  for (const char* merge : {"", "ab", "a ", " a", "a"}) {
    TinyBpe bad_merge;
    bad_merge.merges.emplace_back(merge);
    EXPECT_EQ(code_of(bad_merge.Builder()), StatusCode::kCorruption) << merge;
  }
  TinyBpe long_token;
  long_token.Add(std::string(5000, 'x'), 1);
  EXPECT_EQ(code_of(long_token.Builder()), StatusCode::kCorruption);
  TinySentencePiece few_scores;
  few_scores.scores.pop_back();
  EXPECT_EQ(code_of(few_scores.Builder()), StatusCode::kCorruption);
  TinySentencePiece bad_score;
  bad_score.scores[5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(code_of(bad_score.Builder()), StatusCode::kCorruption);
  TinySentencePiece empty;
  empty.tokens.clear();
  EXPECT_EQ(code_of(empty.Builder()), StatusCode::kCorruption);
}

TEST(TokenizerTest, IdsOutsideTheVocabularyCountAsAbsent) {
  TinyBpe tiny;
  tiny.eos_id = 4'000'000'000.0;
  const auto tokenizer = LoadTiny(tiny);
  EXPECT_EQ(tokenizer->eos_id(), kNoToken);
  EXPECT_TRUE(tokenizer->IsStop(tokenizer->FindToken("<|im_end|>")));
}

}  // namespace
}  // namespace intarsia::model
