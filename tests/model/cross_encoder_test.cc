#include "model/cross_encoder.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/base/temporary_folder.h"
#include "tests/model/tiny_bert.h"

namespace intarsia::model {
namespace {

class CrossEncoderTest : public testing::Test {
 protected:
  CrossEncoderTest() { bert_.AddHead(); }

  // Writes bert_ as it is now and loads it.
  Result<std::unique_ptr<CrossEncoder>> Load(
      EmbedderPrecision precision = EmbedderPrecision::kF32) {
    // A reranker has no modules and no pooling.
    for (const std::string name :
         {"config.json", "vocab.txt", "tokenizer_config.json", "sentence_bert_config.json"}) {
      Write(name, bert_.files.at(name));
    }
    Write("model.safetensors", bert_.Safetensors());
    return CrossEncoder::Load(folder_.path(), {.pool = &pool_, .precision = precision});
  }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_.File(name), std::ios::binary) << content;
  }
  static std::vector<float> Score(const CrossEncoder& encoder, std::string_view question,
                                  const std::vector<std::string_view>& passages) {
    std::vector<float> scores(passages.size());
    const Status status = encoder.Score(question, passages, scores.data(), nullptr);
    EXPECT_TRUE(status.ok()) << status;
    return scores;
  }

  TinyBert bert_;
  ThreadPool pool_{2};
  const TemporaryFolder folder_;
};

TEST_F(CrossEncoderTest, AgreesWithItsDefinition) {
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EXPECT_EQ((*encoder)->max_tokens(), 12);
  const std::vector<float> scores =
      Score(**encoder, "the cat", {"sat on a mat", "", "dog", "cats"});
  // [CLS] the cat [SEP] ... [SEP]
  EXPECT_NEAR(scores[0], bert_.Score({2, 5, 6, 3, 7, 8, 11, 9, 3}, 4), 1e-5);
  EXPECT_NEAR(scores[1], bert_.Score({2, 5, 6, 3, 3}, 4), 1e-5);
  EXPECT_NEAR(scores[2], bert_.Score({2, 5, 6, 3, 1, 3}, 4), 1e-5);
  EXPECT_NEAR(scores[3], bert_.Score({2, 5, 6, 3, 6, 10, 3}, 4), 1e-5);
  EXPECT_TRUE(Score(**encoder, "the cat", {}).empty());
}

struct Golden {
  const char* passage;
  float score;
};
// Printed by tools/make_cross_encoder_goldens.py.
constexpr Golden kGoldens[] = {
    {"sat on a mat", 0.6882081F},
    {"dog", 0.7098130F},
    {"cats", 0.7063751F},
    {"the cat sat on the mats", 0.7133279F},
};

TEST_F(CrossEncoderTest, AgreesWithTransformers) {
  int number = 0;
  for (auto& [name, tensor] : bert_.tensors) {
    const bool is_norm = name.ends_with("LayerNorm.weight");
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      const double wave = std::sin(0.9 * static_cast<double>(i) + 1.3 * number + 1.0);
      tensor.values[i] = static_cast<float>(is_norm ? 1.0 + 0.1 * wave : 0.3 * wave);
    }
    ++number;
  }
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  for (const Golden& golden : kGoldens) {
    EXPECT_NEAR(Score(**encoder, "the cat", {golden.passage})[0], golden.score, 2e-5)
        << golden.passage;
  }
}

TEST_F(CrossEncoderTest, ALongPairLosesTheEndOfItsLongerText) {
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  // Twelve tokens in all, of which three are special.
  const std::vector<float> scores = Score(
      **encoder, "the cat", {"mat mat mat mat mat mat mat mat mat", "mat mat mat mat mat mat mat"});
  EXPECT_EQ(scores[0], scores[1]);
  EXPECT_NEAR(scores[0], bert_.Score({2, 5, 6, 3, 9, 9, 9, 9, 9, 9, 9, 3}, 4), 1e-5);
}

TEST_F(CrossEncoderTest, ManyPassagesAreScoredAsOneByOne) {
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  // More rows than one pass takes.
  std::vector<std::string_view> passages;
  for (int i = 0; i < 300; ++i) passages.push_back(i % 3 == 0 ? "sat on a mat" : "the");
  const std::vector<float> scores = Score(**encoder, "the cat", passages);
  const std::vector<float> alone = Score(**encoder, "the cat", {"sat on a mat", "the"});
  for (size_t i = 0; i < scores.size(); ++i) {
    EXPECT_NEAR(scores[i], alone[i % 3 == 0 ? 0 : 1], 1e-5) << i;
  }
}

TEST_F(CrossEncoderTest, TheFastestPrecisionKeepsTheOrder) {
  const auto encoder = Load(EmbedderPrecision::kFastest);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const std::vector<float> scores = Score(**encoder, "the cat", {"sat on a mat", "dog"});
  EXPECT_NEAR(scores[0], bert_.Score({2, 5, 6, 3, 7, 8, 11, 9, 3}, 4), 0.1);
  EXPECT_NEAR(scores[1], bert_.Score({2, 5, 6, 3, 1, 3}, 4), 0.1);
}

TEST_F(CrossEncoderTest, WhatIsNoCrossEncoderIsRefused) {
  const auto code = [this] { return Load().status().code(); };
  bert_.tensors["classifier.weight"].shape = {2, TinyBert::kHidden / 2};
  EXPECT_EQ(code(), StatusCode::kUnsupported);
  bert_.tensors["classifier.weight"].shape = {1, TinyBert::kHidden};
  const TinyBert::Tensor pooler = bert_.tensors["pooler.dense.weight"];
  bert_.tensors.erase("pooler.dense.weight");
  EXPECT_EQ(code(), StatusCode::kCorruption);
  bert_.tensors["pooler.dense.weight"] = pooler;
  EXPECT_EQ(code(), StatusCode::kOk);
  bert_.tensors["pooler.dense.weight"].shape = {TinyBert::kHidden * TinyBert::kHidden};
  EXPECT_EQ(code(), StatusCode::kCorruption);
  bert_.tensors["pooler.dense.weight"] = pooler;
  bert_.tensors.erase("classifier.weight");
  const Status status = Load().status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.ToString().find("TYPE EMBEDDING"), std::string::npos) << status;
  std::string& config = bert_.files["config.json"];
  config.replace(config.find("\"type_vocab_size\": 2"), 20, "\"type_vocab_size\": 1");
  EXPECT_EQ(code(), StatusCode::kUnsupported);
}

TEST_F(CrossEncoderTest, WeightsWithoutFiniteScoresAreDamage) {
  bert_.tensors["classifier.bias"].values[0] = std::numeric_limits<float>::quiet_NaN();
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  float score = 0.0F;
  const std::string_view passages[] = {"mat"};
  EXPECT_EQ((*encoder)->Score("cat", passages, &score, nullptr).code(), StatusCode::kCorruption);
}

TEST_F(CrossEncoderTest, ACancelledScoreStops) {
  const auto encoder = Load();
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  CancelToken cancel;
  cancel.Cancel();
  float score = 0.0F;
  const std::string_view passages[] = {"mat"};
  EXPECT_EQ((*encoder)->Score("cat", passages, &score, &cancel).code(), StatusCode::kCancelled);
}

TEST_F(CrossEncoderTest, TheDigestNamesTheHeadAndTheNorm) {
  const Digest digest = (*Load())->digest();
  EXPECT_EQ((*Load())->digest(), digest);
  const std::string config = bert_.files.at("config.json");
  bert_.files["config.json"].replace(config.find("1e-12"), 5, "1e-03");
  EXPECT_NE((*Load())->digest(), digest);
  bert_.files["config.json"] = config;
  bert_.tensors["classifier.bias"].values[0] += 1.0F;
  EXPECT_NE((*Load())->digest(), digest);
}

}  // namespace
}  // namespace intarsia::model
