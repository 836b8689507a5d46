#include "model/embedder.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/packed_matrix.h"
#include "tests/base/temporary_folder.h"
#include "tests/model/tiny_bert.h"

namespace intarsia::model {
namespace {

constexpr size_t kDim = TinyBert::kHidden;

double Cosine(const float* a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < b.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

class EmbedderTest : public testing::Test {
 protected:
  // Writes `bert` as it is now and loads it.
  Result<std::unique_ptr<Embedder>> Load(const TinyBert& bert,
                                         EmbedderPrecision precision = EmbedderPrecision::kF32) {
    EXPECT_TRUE(FileSystem::Local()->CreateDirectories(folder_.File("1_Pooling")).ok());
    for (const auto& [name, content] : bert.files) Write(name, content);
    Write("model.safetensors", bert.Safetensors());
    return Load(precision);
  }
  Result<std::unique_ptr<Embedder>> Load(EmbedderPrecision precision = EmbedderPrecision::kF32) {
    return Embedder::Load(folder_.path(), {.pool = &pool_, .precision = precision});
  }

  // Without the wait for the disk that a product's write has.
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_.File(name), std::ios::binary) << content;
  }

  static std::vector<float> Embed(const Embedder& embedder,
                                  const std::vector<std::string_view>& texts,
                                  TextRole role = TextRole::kDocument) {
    std::vector<float> vectors(texts.size() * kDim);
    const Status status = embedder.Embed(texts, role, vectors.data(), nullptr);
    EXPECT_TRUE(status.ok()) << status;
    return vectors;
  }

  static void ExpectNear(const float* actual, const std::vector<float>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 2e-6) << i;
  }

  ThreadPool pool_{2};
  const TemporaryFolder folder_;
};

TEST_F(EmbedderTest, AgreesWithItsDefinition) {
  const TinyBert bert;
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  EXPECT_EQ((*embedder)->dimension(), TinyBert::kHidden);
  EXPECT_EQ((*embedder)->max_tokens(), 12);
  const std::vector<float> vectors = Embed(**embedder, {"the cat sat", "", "Cats on A mat", "dog"});
  ExpectNear(&vectors[0], bert.Vector({2, 5, 6, 7, 3}));
  ExpectNear(&vectors[kDim], bert.Vector({2, 3}));
  ExpectNear(&vectors[2 * kDim], bert.Vector({2, 6, 10, 8, 11, 9, 3}));
  ExpectNear(&vectors[3 * kDim], bert.Vector({2, 1, 3}));
}

TEST_F(EmbedderTest, TheFastestPrecisionStaysClose) {
  const TinyBert bert;
  const auto embedder = Load(bert, EmbedderPrecision::kFastest);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const std::vector<float> vectors = Embed(**embedder, {"the cat sat", "on a mat"});
  EXPECT_GT(Cosine(&vectors[0], bert.Vector({2, 5, 6, 7, 3})), 0.999);
  EXPECT_GT(Cosine(&vectors[kDim], bert.Vector({2, 8, 11, 9, 3})), 0.999);
}

TEST_F(EmbedderTest, PoolsTheFirstTokenWhereTheModelSaysSo) {
  TinyBert bert;
  bert.files["1_Pooling/config.json"] =
      R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})";
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  ExpectNear(Embed(**embedder, {"the cat"}).data(), bert.Vector({2, 5, 6, 3}, /*is_cls=*/true));
}

TEST_F(EmbedderTest, KnowsTheOtherGelu) {
  TinyBert bert;
  std::string& config = bert.files["config.json"];
  config.replace(config.find("\"gelu\""), 6, "\"gelu_new\"");
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  ExpectNear(Embed(**embedder, {"the cat"}).data(),
             bert.Vector({2, 5, 6, 3}, /*is_cls=*/false, /*is_tanh=*/true));
}

TEST_F(EmbedderTest, PutsThePromptOfItsRoleInFront) {
  TinyBert bert;
  bert.files["config_sentence_transformers.json"] =
      R"({"prompts": {"query": "sat on ", "document": ""}})";
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  ExpectNear(Embed(**embedder, {"mat"}, TextRole::kQuery).data(), bert.Vector({2, 7, 8, 9, 3}));
  ExpectNear(Embed(**embedder, {"mat"}, TextRole::kDocument).data(), bert.Vector({2, 9, 3}));
}

TEST_F(EmbedderTest, CutsALongTextAtItsEnd) {
  const TinyBert bert;
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const std::vector<float> vectors =
      Embed(**embedder, {"the cat sat on the mat the cat sat on the mat the cat sat on the mat",
                         "the cat sat on the mat the cat sat on"});
  ExpectNear(&vectors[0], bert.Vector({2, 5, 6, 7, 8, 5, 9, 5, 6, 7, 8, 3}));
  ExpectNear(&vectors[kDim], std::vector<float>(vectors.begin(), vectors.begin() + kDim));
}

TEST_F(EmbedderTest, ManyTextsKeepTheirOrder) {
  const TinyBert bert;
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const std::vector<std::string_view> kinds = {"the cat sat on the mat", "a", "", "cats sat"};
  std::vector<std::string_view> texts;
  for (size_t i = 0; i < 1301; ++i) texts.push_back(kinds[i * 7 % 4]);
  const std::vector<float> expected = Embed(**embedder, kinds);
  const std::vector<float> vectors = Embed(**embedder, texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    const size_t kind = i * 7 % 4;
    for (size_t j = 0; j < kDim; ++j) {
      ASSERT_NEAR(vectors[i * kDim + j], expected[kind * kDim + j], 2e-6) << i << " " << j;
    }
  }
}

TEST_F(EmbedderTest, EveryVectorHasLengthOne) {
  const auto embedder = Load(TinyBert(5));
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const std::vector<float> vectors = Embed(**embedder, {"", "\xff\xfe", "cat", "\xe2\x82\xac"});
  for (size_t i = 0; i < 4; ++i) {
    const float* const vector = &vectors[i * kDim];
    EXPECT_NEAR(Cosine(vector, std::vector<float>(vector, vector + kDim)), 1.0, 1e-6);
  }
  EXPECT_TRUE((*embedder)->Embed({}, TextRole::kQuery, nullptr, nullptr).ok());
}

TEST_F(EmbedderTest, StopsWhenCancelled) {
  const auto embedder = Load(TinyBert());
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  CancelToken cancel;
  const std::vector<std::string_view> texts = {"cat"};
  std::vector<float> vector(kDim);
  EXPECT_TRUE((*embedder)->Embed(texts, TextRole::kQuery, vector.data(), &cancel).ok());
  cancel.Cancel();
  EXPECT_EQ((*embedder)->Embed(texts, TextRole::kQuery, vector.data(), &cancel).code(),
            StatusCode::kCancelled);
}

TEST_F(EmbedderTest, ServesSeveralThreads) {
  const TinyBert bert;
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        ExpectNear(Embed(**embedder, {"the cat sat"}).data(), bert.Vector({2, 5, 6, 7, 3}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(EmbedderTest, LoadsTheOlderNamesOfTensors) {
  const TinyBert bert;
  TinyBert renamed;
  renamed.tensors.clear();
  for (const auto& [name, tensor] : bert.tensors) {
    std::string other = "bert." + name;
    if (const size_t at = other.find("LayerNorm."); at != std::string::npos) {
      other.replace(at + 10, std::string::npos, other.ends_with("weight") ? "gamma" : "beta");
    }
    renamed.tensors[other] = tensor;
  }
  const auto embedder = Load(renamed);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  ExpectNear(Embed(**embedder, {"the cat sat"}).data(), bert.Vector({2, 5, 6, 7, 3}));
}

TEST_F(EmbedderTest, OptionalFilesMayBeAbsent) {
  TinyBert bert;
  bert.files = {{"config.json", bert.files["config.json"]}, {"vocab.txt", bert.files["vocab.txt"]}};
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  EXPECT_EQ((*embedder)->max_tokens(), TinyBert::kPositions);
  ExpectNear(Embed(**embedder, {"The cat"}).data(), bert.Vector({2, 5, 6, 3}));
}

TEST_F(EmbedderTest, AMissingFileIsNamed) {
  for (const char* name : {"config.json", "vocab.txt", "model.safetensors"}) {
    ASSERT_TRUE(Load(TinyBert()).ok());
    ASSERT_TRUE(FileSystem::Local()->Remove(folder_.File(name)).ok());
    const Status error = Load().status();
    EXPECT_EQ(error.code(), StatusCode::kNotFound) << error;
    EXPECT_NE(error.message().find(folder_.File(name)), std::string_view::npos) << error;
  }
}

TEST_F(EmbedderTest, RefusesConfigurationsItDoesNotKnowOrTrust) {
  const auto with = [](const std::string& old_text, const std::string& new_text) {
    std::string config = TinyBert().files["config.json"];
    config.replace(config.find(old_text), old_text.size(), new_text);
    return config;
  };
  constexpr StatusCode kBad = StatusCode::kCorruption;
  constexpr StatusCode kOther = StatusCode::kUnsupported;
  const struct {
    std::string file;
    std::string content;
    StatusCode code;
  } cases[] = {
      {"config.json", "", kBad},
      {"config.json", "[]", kBad},
      {"config.json", "{\"model_type\": \"bert\"}", kBad},
      {"config.json", std::string(10'000, '['), kBad},
      {"config.json", std::string(2 << 20, ' '), StatusCode::kInvalidArgument},
      {"config.json", with("\"bert\"", "\"roberta\""), kOther},
      {"config.json", with("\"bert\"", "7"), kBad},
      {"config.json", with("\"gelu\"", "\"relu\""), kOther},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": -24"), kBad},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": 24.0"), kBad},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": 18446744073709551615"), kBad},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": 1e300"), kBad},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": null"), kBad},
      {"config.json", with("\"hidden_size\": 24", "\"hidden_size\": 48"), kBad},
      {"config.json", with("_heads\": 3", "_heads\": 5"), kBad},
      {"config.json", with("_heads\": 3", "_heads\": 0"), kBad},
      {"config.json", with("1e-12", "-1"), kBad},
      {"config.json", with("\"type_vocab_size\": 2", "\"is_decoder\": true"), kOther},
      {"config.json",
       with("\"type_vocab_size\": 2", "\"position_embedding_type\": \"relative_key\""), kOther},
      {"config.json", with("\"vocab_size\": 12", "\"vocab_size\": 11"), kBad},
      {"config.json", with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"), kBad},
      {"vocab.txt", "", kBad},
      {"vocab.txt", "just\nwords\n", kBad},
      {"modules.json", "{}", kBad},
      {"modules.json", "[1]", kBad},
      {"modules.json", "[]", kOther},
      {"modules.json", R"([{"path": "../x", "type": "Pooling"}])", kBad},
      {"modules.json", R"([{"path": "..", "type": "Pooling"}])", kBad},
      {"modules.json", R"([{"path": "a\u0000b", "type": "Pooling"}])", kBad},
      {"modules.json",
       R"([{"path": "1_Pooling", "type": "x.Pooling"}, {"path": "2_Dense", "type": "x.Dense"}])",
       kOther},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens": 1})", kBad},
      {"1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})", kOther},
      {"1_Pooling/config.json", R"({"pooling_mode": "lasttoken"})", kOther},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens": false})", kOther},
      {"sentence_bert_config.json", R"({"max_seq_length": 1})", kBad},
      {"sentence_bert_config.json", R"({"max_seq_length": "many"})", kBad},
      {"tokenizer_config.json", R"({"do_lower_case": "yes"})", kBad},
      {"tokenizer_config.json", R"({"cls_token": "[NONE]"})", kBad},
      {"config_sentence_transformers.json", R"({"prompts": []})", kBad},
  };
  for (const auto& expected : cases) {
    TinyBert bert;
    bert.files["config_sentence_transformers.json"] = "{}";
    bert.files[expected.file] = expected.content;
    const Status error = Load(bert).status();
    EXPECT_EQ(error.code(), expected.code)
        << expected.file << ": " << expected.content.substr(0, 200) << "\n"
        << error;
  }
}

TEST_F(EmbedderTest, RefusesWeightsThatDoNotFit) {
  TinyBert missing;
  missing.tensors.erase("encoder.layer.1.output.dense.bias");
  TinyBert transposed;
  std::swap(transposed.tensors["encoder.layer.0.output.dense.weight"].shape[0],
            transposed.tensors["encoder.layer.0.output.dense.weight"].shape[1]);
  TinyBert flat;
  flat.tensors["embeddings.LayerNorm.weight"].shape = {1, TinyBert::kHidden};
  for (const TinyBert* bert : {&missing, &transposed, &flat}) {
    const Status error = Load(*bert).status();
    EXPECT_EQ(error.code(), StatusCode::kCorruption) << error;
  }

  ASSERT_TRUE(Load(TinyBert()).ok());
  const std::string whole = TinyBert().Safetensors();
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, whole.size() - 1}) {
    Write("model.safetensors", whole.substr(0, size));
    EXPECT_EQ(Load().status().code(), StatusCode::kCorruption) << size;
  }
}

TEST_F(EmbedderTest, WeightsThatAreNoNumbersGiveAnErrorAndNoVector) {
  TinyBert bert;
  bert.tensors["encoder.layer.1.output.LayerNorm.bias"].values[3] =
      std::numeric_limits<float>::quiet_NaN();
  const auto embedder = Load(bert);
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const std::vector<std::string_view> texts = {"cat"};
  std::vector<float> vector(kDim);
  EXPECT_EQ((*embedder)->Embed(texts, TextRole::kQuery, vector.data(), nullptr).code(),
            StatusCode::kCorruption);
}

TEST_F(EmbedderTest, TheDigestNamesWhatShapesAVector) {
  TinyBert weights;
  weights.tensors["embeddings.LayerNorm.bias"].values[0] += 1.0f;
  TinyBert words;
  words.files["vocab.txt"].replace(words.files["vocab.txt"].find("mat"), 3, "hat");
  TinyBert pooling;
  pooling.files["1_Pooling/config.json"] =
      R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})";
  TinyBert length;
  length.files["sentence_bert_config.json"] = R"({"max_seq_length": 11})";
  TinyBert prompt;
  prompt.files["config_sentence_transformers.json"] = R"({"prompts": {"query": "q: "}})";

  std::vector<Digest> digests;
  for (const TinyBert& bert : {TinyBert(), weights, words, pooling, length, prompt}) {
    const auto embedder = Load(bert);
    ASSERT_TRUE(embedder.ok()) << embedder.status();
    digests.push_back((*embedder)->digest());
  }
  const auto again = Load(prompt, EmbedderPrecision::kFastest);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)->digest(), digests.back());
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(std::adjacent_find(digests.begin(), digests.end()), digests.end());
}

}  // namespace
}  // namespace intarsia::model
