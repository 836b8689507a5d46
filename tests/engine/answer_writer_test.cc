#include "engine/answer_writer.h"

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "engine/answerer.h"
#include "engine/fusion/cpu_backend.h"
#include "query/sentences.h"
#include "tests/engine/tiny_engine_models.h"

namespace intarsia::engine {
namespace {

class Collector : public TokenSink {
 public:
  void Write(std::string_view text) override { text_.append(text); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Passages in front of a tiny model that reads an answer as if it had written it.
class AnswerWriterTest : public testing::Test {
 protected:
  AnswerWriterTest() : pool_(1), bytes_(TinyGeneratorBytes({})) {
    file_ = *model::GgufFile::Parse(bytes_, "tiny");
    tokenizer_ = *model::LoadTokenizer(*file_);
    transformer_ =
        *model::Transformer::Load(*file_, {.compute = kernels::ComputeType::kF32}, &pool_);
  }

  struct Written {
    std::string text;
    std::string streamed;
    std::vector<Citation> citations;
  };

  // Writes `answer` in tokens of one byte; the passages stand at the beginning of the prompt.
  Written Write(const std::vector<std::string>& passages, std::string_view answer) {
    std::vector<CitedPassage> cited;
    std::vector<PromptPart> parts;
    int64_t position = 0;
    for (const std::string& text : passages) {
      auto encoded = *tokenizer_->EncodeWithRanges(text);
      cited.push_back({.text = text,
                       .token_begin = position,
                       .ranges = std::move(encoded.ranges),
                       .heading = "## Passage " + std::to_string(cited.size() + 1)});
      position += std::ssize(encoded.ids);
      parts.push_back({.tokens = std::move(encoded.ids)});
    }
    const std::vector<int32_t> question = {'?'};
    ++position;
    CpuBackend backend(transformer_);
    const Prompt prompt = *Prompt::Create({}, parts, question);
    auto started = backend.Prefill(prompt, {}, std::ssize(answer), nullptr);
    EXPECT_TRUE(started.ok()) << started.status();
    Citer citer(std::move(cited));
    Collector collector;
    AnswerWriter writer(*tokenizer_, citer, &collector);
    const model::Sampler sampler = *model::Sampler::Create({});
    for (const char byte : answer) {
      const int32_t token = static_cast<uint8_t>(byte);
      EXPECT_TRUE(writer.Push(token).ok());
      const auto step = started->run->Step(token, position++, sampler, nullptr);
      EXPECT_TRUE(step.ok()) << step.status();
      citer.AddStep(writer.plain_bytes(), step->attention);
    }
    writer.Finish();
    return {.text = writer.text(), .streamed = collector.text(), .citations = writer.citations()};
  }

  ThreadPool pool_;
  const std::string bytes_;
  std::unique_ptr<model::GgufFile> file_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  std::shared_ptr<model::Transformer> transformer_;
};

const std::vector<std::string>& Passages() {
  static const std::vector<std::string> kPassages = {
      "The harbour was built in 1843. Its water is deep.",
      "The lighthouse stands on a rock. A fire destroyed the market."};
  return kPassages;
}

TEST_F(AnswerWriterTest, EachSentenceCitesTheOneItSharesWordsWith) {
  const Written written = Write(
      Passages(), "The harbour was built in 1843. A fire destroyed the market. Nobody knows.");
  EXPECT_EQ(written.text,
            "The harbour was built in 1843. [1] A fire destroyed the market. [2] Nobody knows.");
  EXPECT_EQ(written.streamed, written.text);
  ASSERT_EQ(written.citations.size(), 2u);
  EXPECT_EQ(written.citations[0].passage, 0u);
  EXPECT_EQ(written.citations[0].quote.Of(Passages()[0]), "The harbour was built in 1843.");
  EXPECT_EQ(written.citations[1].passage, 1u);
  EXPECT_EQ(written.citations[1].quote.Of(Passages()[1]), "A fire destroyed the market.");
  EXPECT_EQ(written.citations[1].answer.Of(written.text), "A fire destroyed the market.");
}

TEST_F(AnswerWriterTest, ASourceKeepsItsNumber) {
  const Written written =
      Write(Passages(), "Deep water. The rock of the lighthouse. Water is deep.");
  EXPECT_EQ(written.text, "Deep water. [1] The rock of the lighthouse. [2] Water is deep. [1]");
  EXPECT_EQ(written.citations.size(), 2u);
}

TEST_F(AnswerWriterTest, TheAnswerEndsBeforeTheHeadingOfAPassage) {
  const Written copied = Write(Passages(), "Deep water.\n\n## Passage 2\nThe lighthouse stands.");
  EXPECT_EQ(copied.text, "Deep water. [1]");
  EXPECT_EQ(copied.streamed, copied.text);
  // Lines that only begin like one are the answer's own.
  const Written own = Write(Passages(), "Deep water.\n## Passage 21\n## Pass\nMore.");
  EXPECT_EQ(own.text, "Deep water. [1]\n## Passage 21\n## Pass\nMore.");
  EXPECT_EQ(own.streamed, own.text);
}

TEST_F(AnswerWriterTest, BlanksInFrontAreNoPartOfTheAnswer) {
  EXPECT_EQ(Write(Passages(), " \n\n Deep water.").text, "Deep water. [1]");
  // So that a step's attention counts for the sentence that its token belongs to.
  const Citer citer({});
  AnswerWriter writer(*tokenizer_, citer, nullptr);
  for (const char byte : std::string_view(" \n Deep")) {
    ASSERT_TRUE(writer.Push(byte).ok());
  }
  EXPECT_EQ(writer.plain_bytes(), 4);
}

TEST_F(AnswerWriterTest, NumbersStandBehindListItemsAndLinesToo) {
  const Written written =
      Write(Passages(), "These are known:\n- The harbour.\n- The lighthouse\n\n1. The market.\n");
  EXPECT_EQ(written.streamed, written.text);
  EXPECT_NE(written.text.find("- The harbour. [1]\n- The lighthouse [2]\n\n1. The market. ["),
            std::string::npos)
      << written.text;
  for (const Citation& citation : written.citations) {
    const std::string_view sentence = citation.answer.Of(written.text);
    EXPECT_EQ(sentence.find_first_of("[\n"), std::string_view::npos) << sentence;
  }
}

TEST_F(AnswerWriterTest, NothingIsNothing) {
  EXPECT_EQ(Write(Passages(), "").text, "");
  EXPECT_EQ(Write(Passages(), " \n ").text, "");
  EXPECT_EQ(Write({}, "The harbour.").text, "The harbour.");
  EXPECT_EQ(Write(Passages(), "\xFF\xC3").text, "\uFFFD\uFFFD");
}

TEST_F(AnswerWriterTest, AnyAnswerStaysItselfApartFromItsNumbers) {
  constexpr std::string_view kParts[] = {
      "The harbour", "Deep water", "market",  " ",  " ",     ". ",  ".\n",   "\n\n",
      "\n- ",        "*",          "\"",      "(",  ")",     "1. ", "e.g. ", "? ",
      "é",           "東京。",     "| a |\n", "# ", "```\n", "…",   "! ",    ": "};
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::string answer;
    const int num_parts = static_cast<int>(random() % 24);
    for (int i = 0; i < num_parts; ++i) answer += kParts[random() % std::size(kParts)];
    const Written written = Write(Passages(), answer);
    EXPECT_EQ(written.streamed, written.text);
    std::string without;
    for (size_t i = 0; i < written.text.size(); ++i) {
      const bool is_number = written.text[i] == '[' || written.text.compare(i, 2, " [") == 0;
      if (!is_number) {
        without.push_back(written.text[i]);
        continue;
      }
      i = written.text.find(']', i);
    }
    const size_t first = answer.find_first_not_of(" \n");
    const size_t last = answer.find_last_not_of(" \n");
    const std::string wanted =
        first == std::string::npos ? "" : answer.substr(first, last + 1 - first);
    EXPECT_EQ(without, wanted) << answer;
    for (const Citation& citation : written.citations) {
      ASSERT_GE(citation.answer.begin, 0);
      ASSERT_LE(citation.answer.end, std::ssize(written.text));
      const std::string_view sentence = citation.answer.Of(written.text);
      EXPECT_NE(wanted.find(sentence), std::string::npos) << sentence << "\n" << written.text;
    }
  }
}

}  // namespace
}  // namespace intarsia::engine
