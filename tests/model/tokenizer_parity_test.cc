#include <algorithm>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "model/pre_tokenizer.h"
#include "model/token_stream_decoder.h"
#include "model/tokenizer.h"
#include "model/wordpiece_tokenizer.h"
#include "tests/model/tokenizer_goldens.h"

namespace intarsia::model {
namespace {

using Ids = std::vector<int32_t>;

struct ModelCase {
  std::string name;
  std::string path;
};

// Names the case in the output of GoogleTest, which looks for this name.
// NOLINTNEXTLINE(readability-identifier-naming): as GoogleTest has it.
void PrintTo(const ModelCase& model, std::ostream* out) { *out << model.name; }

class TokenizerParityTest : public testing::TestWithParam<ModelCase> {
 protected:
  void SetUp() override {
    if (!HasModel(GetParam().path)) {
      GTEST_SKIP() << "no " << GetParam().path << "; get it with tools/fetch_models.sh";
    }
    tokenizer_ = LoadModelTokenizer(GetParam().path);
    ASSERT_NE(tokenizer_, nullptr);
    golden_ = ReadGoldens(GetParam().name);
    strings_ = golden_["strings"].get<std::vector<std::string>>();
    ASSERT_GE(strings_.size(), 200U);
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      const std::string_view piece = tokenizer_->Piece(id);
      if (piece.size() == 1) is_known_[static_cast<uint8_t>(piece[0])] = true;
    }
  }

  // Whether the vocabulary can express every byte of `text`: SmolLM2 lacks some control characters.
  bool CanExpress(const std::string& text) const {
    return std::all_of(text.begin(), text.end(),
                       [&](char byte) { return is_known_[static_cast<uint8_t>(byte)]; });
  }
  // SentencePiece cannot tell its mark for a blank from a blank.
  static bool HasBlankMark(const std::string& text) {
    return GetParam().name == "gemma3" && text.find("\u2581") != std::string::npos;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::json golden_;
  std::vector<std::string> strings_;
  std::vector<bool> is_known_ = std::vector<bool>(256);  // Whether a token is this byte.
};

TEST_P(TokenizerParityTest, UserTextHasTheIdsOfTheReference) {
  const auto wanted = golden_["user"].get<std::vector<Ids>>();
  for (size_t i = 0; i < strings_.size(); ++i) {
    const auto ids = tokenizer_->Encode(strings_[i], SpecialTokens::kAsText);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, wanted[i]) << testing::PrintToString(strings_[i]);
  }
}

TEST_P(TokenizerParityTest, TemplateTextHasTheIdsOfTheReference) {
  const auto wanted = golden_["template"].get<std::vector<Ids>>();
  for (size_t i = 0; i < strings_.size(); ++i) {
    const auto ids = tokenizer_->Encode(strings_[i], SpecialTokens::kParse);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, wanted[i]) << testing::PrintToString(strings_[i]);
  }
}

TEST_P(TokenizerParityTest, UserTextHasNoSpecialTokens) {
  for (const std::string& text : strings_) {
    const auto ids = tokenizer_->Encode(text, SpecialTokens::kAsText);
    ASSERT_TRUE(ids.ok()) << ids.status();
    for (const int32_t id : *ids) {
      EXPECT_FALSE(tokenizer_->IsSpecial(id)) << testing::PrintToString(text);
      EXPECT_FALSE(tokenizer_->IsStop(id)) << testing::PrintToString(text);
    }
  }
  // The name of every special token, in the middle of text.
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (!tokenizer_->IsSpecial(id)) continue;
    const std::string name(tokenizer_->TokenText(id));
    const auto ids = tokenizer_->Encode("a" + name + name + " b", SpecialTokens::kAsText);
    ASSERT_TRUE(ids.ok()) << ids.status();
    for (const int32_t part : *ids) EXPECT_FALSE(tokenizer_->IsSpecial(part)) << name;
  }
}

TEST_P(TokenizerParityTest, DecodedTextIsWhatWasEncoded) {
  for (const std::string& text : strings_) {
    if (HasBlankMark(text) || !CanExpress(text)) continue;
    const auto ids = tokenizer_->Encode(text, SpecialTokens::kAsText);
    ASSERT_TRUE(ids.ok()) << ids.status();
    const auto decoded = tokenizer_->Decode(*ids);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, text);
    TokenStreamDecoder stream(tokenizer_.get());
    std::string streamed;
    for (const int32_t id : *ids) streamed += *stream.Push(id);
    EXPECT_EQ(streamed + stream.Finish(), text);
  }
}

TEST_P(TokenizerParityTest, RangesOfTokensCoverTheText) {
  for (const std::string& text : strings_) {
    const auto encoded = tokenizer_->EncodeWithRanges(text);
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    EXPECT_EQ(encoded->ids, *tokenizer_->Encode(text, SpecialTokens::kAsText));
    ASSERT_EQ(encoded->ids.size(), encoded->ranges.size());
    int64_t end = 0;
    for (size_t i = 0; i < encoded->ids.size(); ++i) {
      const TokenRange range = encoded->ranges[i];
      ASSERT_GE(range.begin, end) << testing::PrintToString(text);
      ASSERT_GE(range.end, range.begin);
      if (!HasBlankMark(text)) {
        EXPECT_EQ(text.substr(static_cast<size_t>(range.begin),
                              static_cast<size_t>(range.end - range.begin)),
                  tokenizer_->Piece(encoded->ids[i]));
      }
      end = range.end;
    }
    if (CanExpress(text)) {
      EXPECT_EQ(end, static_cast<int64_t>(text.size()));
    }
  }
}

TEST_P(TokenizerParityTest, RolesAreThoseOfTheReference) {
  EXPECT_EQ(tokenizer_->vocab_size(), golden_["vocab_size"].get<int64_t>());
  EXPECT_EQ(tokenizer_->bos_id(), golden_["bos"].get<int32_t>());
  EXPECT_EQ(tokenizer_->eos_id(), golden_["eos"].get<int32_t>());
  EXPECT_EQ(tokenizer_->adds_bos(), golden_["adds_bos"].get<bool>());
  EXPECT_TRUE(tokenizer_->IsStop(tokenizer_->eot_id()));
  EXPECT_FALSE(tokenizer_->IsStop(kNoToken));
  for (const int32_t id : golden_["stops"].get<Ids>()) {
    // An ordinary token of these vocabularies, which the reference takes for an end of sequence.
    if (tokenizer_->TokenText(id) == "</s>") continue;
    EXPECT_TRUE(tokenizer_->IsStop(id)) << tokenizer_->TokenText(id);
  }
}

TEST_P(TokenizerParityTest, DigestIsTheSameWhenLoadedAgain) {
  const auto again = LoadModelTokenizer(GetParam().path);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->digest(), tokenizer_->digest());
}

INSTANTIATE_TEST_SUITE_P(
    Models, TokenizerParityTest,
    testing::Values(ModelCase{"smollm2", "models/SmolLM2-135M-Instruct.Q4_1.gguf"},
                    ModelCase{"qwen2", "models/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf"},
                    ModelCase{"gemma3", "models/gemma-3-270m-q4_k_m.gguf"}),
    [](const auto& model) { return model.param.name; });

TEST(WordPieceParityTest, UserTextHasTheIdsAndRangesOfTheReference) {
  const std::string path = "models/all-MiniLM-L6-v2/vocab.txt";
  if (!HasModel(path)) GTEST_SKIP() << "no " << path << "; get it with tools/fetch_models.sh";
  const auto tokenizer = WordPieceTokenizer::Load(ReadTestFile(path), WordPieceOptions());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto golden = ReadGoldens("minilm");
  const auto strings = golden["strings"].get<std::vector<std::string>>();
  const auto wanted = golden["user"].get<std::vector<Ids>>();
  const auto ranges = golden["ranges"].get<std::vector<std::vector<std::pair<int64_t, int64_t>>>>();
  ASSERT_GE(strings.size(), 200U);
  for (size_t i = 0; i < strings.size(); ++i) {
    const auto encoded = (*tokenizer)->EncodeWithRanges(strings[i]);
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    EXPECT_EQ(encoded->ids, wanted[i]) << testing::PrintToString(strings[i]);
    ASSERT_EQ(encoded->ranges.size(), ranges[i].size());
    // The reference counts code points.
    std::vector<int64_t> byte_of;
    for (size_t at = 0; at <= strings[i].size(); ++at) {
      const bool is_inside = at < strings[i].size() && (strings[i][at] & 0xC0) == 0x80;
      if (!is_inside) byte_of.push_back(static_cast<int64_t>(at));
    }
    for (size_t k = 0; k < ranges[i].size(); ++k) {
      EXPECT_EQ(encoded->ranges[k].begin, byte_of[static_cast<size_t>(ranges[i][k].first)]);
      EXPECT_EQ(encoded->ranges[k].end, byte_of[static_cast<size_t>(ranges[i][k].second)]);
    }
  }
}

void ExpectWords(PreTokenizer rule, const std::string& name) {
  const auto golden = ReadGoldens(name);
  const auto strings = golden["strings"].get<std::vector<std::string>>();
  const auto wanted = golden["words"].get<std::vector<std::vector<std::string>>>();
  ASSERT_GE(strings.size(), 200U);
  for (size_t i = 0; i < strings.size(); ++i) {
    std::vector<std::string> words;
    SplitIntoWords(rule, strings[i], [&](std::string_view word) { words.emplace_back(word); });
    EXPECT_EQ(words, wanted[i]) << testing::PrintToString(strings[i]);
  }
}

TEST(PreTokenizerParityTest, DefaultWordsAreThoseOfTheFourExpressions) {
  ExpectWords(PreTokenizer::kDefault, "default_words");
}

TEST(PreTokenizerParityTest, Gpt2WordsAreThoseOfTheOfficialExpression) {
  ExpectWords(PreTokenizer::kGpt2, "gpt2_words");
}

TEST(PreTokenizerParityTest, Llama3WordsAreThoseOfTheOfficialExpression) {
  ExpectWords(PreTokenizer::kLlama3, "llama3_words");
}

}  // namespace
}  // namespace intarsia::model
