#include "model/chat_format.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/model/tiny_tokenizers.h"
#include "tests/model/tokenizer_goldens.h"

namespace intarsia::model {
namespace {

// The pieces as one string, user text in braces.
std::string Show(const std::vector<PromptPiece>& pieces) {
  std::string text;
  for (const PromptPiece& piece : pieces) {
    text += piece.special_tokens == SpecialTokens::kParse ? piece.text : "{" + piece.text + "}";
  }
  return text;
}

struct Loaded {
  std::unique_ptr<GgufFile> file;
  std::unique_ptr<Tokenizer> tokenizer;
  Result<ChatFormat> format;
};

Loaded Load(const std::string& bytes) {
  auto file = GgufFile::Parse(bytes, "tiny");
  EXPECT_TRUE(file.ok()) << file.status();
  auto tokenizer = LoadTokenizer(**file);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto format = ChatFormat::FromGguf(**file, **tokenizer);
  return {*std::move(file), *std::move(tokenizer), std::move(format)};
}

TEST(ChatFormatTest, ChatMlPromptHasAHeaderAndATail) {
  const ChatFormat format = ChatFormat::FromFamily(ChatFamily::kChatMl);
  EXPECT_EQ(Show(format.HeaderPieces(" Be brief. ", "Read:\n")),
            "<|im_start|>system\n{Be brief.}<|im_end|>\n<|im_start|>user\n{Read:\n}");
  EXPECT_EQ(Show(format.TailPieces("Why?")), "{Why?}<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(Show(format.HeaderPieces("", "")), "<|im_start|>user\n");
}

TEST(ChatFormatTest, Llama3PromptHasAHeaderAndATail) {
  const ChatFormat format = ChatFormat::FromFamily(ChatFamily::kLlama3);
  EXPECT_EQ(Show(format.HeaderPieces("Be brief.", "Read:")),
            "<|start_header_id|>system<|end_header_id|>\n\n{Be brief.}<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n{Read:}");
  EXPECT_EQ(Show(format.TailPieces("Why?")),
            "{Why?}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatFormatTest, GemmaHasItsSystemTextInTheUsersTurn) {
  const ChatFormat format = ChatFormat::FromFamily(ChatFamily::kGemma);
  EXPECT_EQ(Show(format.HeaderPieces("Be brief.", "Read:")),
            "<start_of_turn>user\n{Be brief.}\n\n{Read:}");
  EXPECT_EQ(Show(format.TailPieces("Why?")), "{Why?}<end_of_turn>\n<start_of_turn>model\n");
}

TEST(ChatFormatTest, WithoutMarkersThereAreParagraphs) {
  const ChatFormat format = ChatFormat::FromFamily(ChatFamily::kPlain);
  EXPECT_EQ(Show(format.HeaderPieces("Be brief.", "Read:")), "{Be brief.}\n\n{Read:}");
  EXPECT_EQ(Show(format.TailPieces("Why?")), "{Why?}\n\nAnswer:");
}

TEST(ChatFormatTest, TheTemplateOfTheFileDecides) {
  const Loaded chat_ml = Load(
      TinyBpe().Builder().AddString("tokenizer.chat_template", "{{'<|im_start|>' + x}}").Build());
  ASSERT_TRUE(chat_ml.format.ok()) << chat_ml.format.status();
  EXPECT_EQ(chat_ml.format->family(), ChatFamily::kChatMl);
  EXPECT_EQ(chat_ml.format->notice(), "");
  const Loaded thinking =
      Load(TinyBpe()
               .Builder()
               .AddString("tokenizer.chat_template", "<|im_start|> {% if enable_thinking %}")
               .Build());
  ASSERT_TRUE(thinking.format.ok());
  EXPECT_EQ(Show(thinking.format->TailPieces("")),
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

TEST(ChatFormatTest, WithoutATemplateTheVocabularyDecidesAndANoticeSaysSo) {
  const Loaded by_markers = Load(TinySentencePiece().Builder().Build());
  ASSERT_TRUE(by_markers.format.ok());
  EXPECT_EQ(by_markers.format->family(), ChatFamily::kGemma);
  EXPECT_NE(by_markers.format->notice(), "");
  TinyBpe plain;
  plain.tokens[256 + 7] = "<|other|>";
  const Loaded without = Load(plain.Builder().AddString("tokenizer.chat_template", "?").Build());
  ASSERT_TRUE(without.format.ok());
  EXPECT_EQ(without.format->family(), ChatFamily::kPlain);
  EXPECT_NE(without.format->notice(), "");
}

TEST(ChatFormatTest, ATemplateWhoseMarkersAreNoTokensIsRefused) {
  const Loaded loaded =
      Load(TinyBpe().Builder().AddString("tokenizer.chat_template", "<start_of_turn>").Build());
  EXPECT_EQ(loaded.format.status().code(), StatusCode::kUnsupported);
}

TEST(ChatFormatTest, MarkersInUserTextAreNotTokens) {
  const Loaded loaded = Load(TinyBpe().Builder().Build());
  ASSERT_TRUE(loaded.format.ok());
  const int32_t end = loaded.tokenizer->FindToken("<|im_end|>");
  const auto tail = loaded.format->EncodeTail(*loaded.tokenizer, "a<|im_end|>b");
  ASSERT_TRUE(tail.ok());
  EXPECT_EQ(std::count(tail->begin(), tail->end(), end), 1);
}

TEST(ChatFormatTest, TheHeaderBeginsWithTheTokenThatBeginsSequences) {
  const Loaded loaded = Load(TinySentencePiece().Builder().Build());
  ASSERT_TRUE(loaded.format.ok());
  const auto header = loaded.format->EncodeHeader(*loaded.tokenizer, "a", "b");
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->front(), loaded.tokenizer->bos_id());
  EXPECT_EQ(std::count(header->begin(), header->end(), loaded.tokenizer->bos_id()), 1);
}

TEST(ChatFormatTest, RealModelsAreRecognised) {
  const std::vector<std::pair<std::string, ChatFamily>> models = {
      {"models/SmolLM2-135M-Instruct.Q4_1.gguf", ChatFamily::kChatMl},
      {"models/Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf", ChatFamily::kChatMl},
      {"models/gemma-3-270m-q4_k_m.gguf", ChatFamily::kGemma}};
  bool is_any_there = false;
  for (const auto& [path, family] : models) {
    if (!HasModel(path)) continue;
    is_any_there = true;
    const auto file = GgufFile::Open(path, FileSystem::Local());
    ASSERT_TRUE(file.ok()) << file.status();
    const auto tokenizer = LoadTokenizer(**file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto format = ChatFormat::FromGguf(**file, **tokenizer);
    ASSERT_TRUE(format.ok()) << format.status();
    EXPECT_EQ(format->family(), family);
    const auto tail = format->EncodeTail(**tokenizer, "Why?");
    ASSERT_TRUE(tail.ok());
    EXPECT_EQ(std::count_if(tail->begin(), tail->end(),
                            [&](int32_t id) { return (*tokenizer)->IsSpecial(id); }),
              2);
  }
  if (!is_any_there) GTEST_SKIP() << "no models; get them with tools/fetch_models.sh";
}

}  // namespace
}  // namespace intarsia::model
