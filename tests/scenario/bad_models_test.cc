// Model files that are damaged or hostile: an error or a success, never a crash, and nothing of the
// database changes. All chance comes from the seeds in the traces.
#include <chrono>
#include <filesystem>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/scenario/scenario_fixture.h"

namespace intarsia::engine {
namespace {

class BadModelsTest : public ScenarioFixture {
 protected:
  std::string WriteModel(const std::string& bytes) {
    // Another file of the same name: a model is mapped while it is in use, which is until the
    // caches behind the last answer are written, and a mapped file must not change under it.
    std::filesystem::remove(folder_ / "bad.gguf");
    storage::WriteFile(folder_ / "bad.gguf", bytes);
    return folder_ / "bad.gguf";
  }
  // Registers the file and answers with it, then drops it again. Whether all of that worked.
  bool Use(const std::string& bytes) {
    const std::string path = WriteModel(bytes);
    if (!Execute("CREATE MODEL bad TYPE GENERATE FROM '" + path + "'").ok()) return false;
    const auto answer = Execute(
        "ANSWER 'harbour?' FROM docs USING bad WITH (min_score = -1, max_tokens = 3, k = 2)");
    Finish();
    const auto again = Execute(
        "ANSWER 'harbour?' FROM docs USING bad WITH (min_score = -1, max_tokens = 3, k = 2)");
    EXPECT_TRUE(Execute("DROP MODEL bad").ok());
    return answer.ok() && again.ok();
  }
};

TEST_F(BadModelsTest, MissingEmptyAndForeignFilesAreRefused) {
  EXPECT_EQ(Fail("CREATE MODEL bad FROM '/nowhere.gguf'").error_class, query::ErrorClass::kInput);
  EXPECT_FALSE(Use(""));
  EXPECT_FALSE(Use("GGUF"));
  EXPECT_FALSE(Use(std::string(100'000, '\0')));
  EXPECT_FALSE(Use("# Not a model"));
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_FALSE(Fail("CREATE MODEL bad FROM '" + (folder_ / "empty") + "'").message.empty());
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, TruncatedFilesAreRefused) {
  const std::string bytes = TinyGeneratorBytes({});
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round) {
    SCOPED_TRACE(round);
    EXPECT_FALSE(Use(bytes.substr(0, random() % bytes.size())));
  }
  EXPECT_FALSE(Use(bytes.substr(0, bytes.size() - 1)));
  EXPECT_TRUE(Use(bytes));
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, FlippedBitsEndInAnErrorOrAnAnswer) {
  const std::string bytes = TinyGeneratorBytes({});
  // In front lie keys, tokens and the descriptions of tensors, of which this is the last.
  const size_t header_end = bytes.find("output.weight", bytes.find("blk.3.ffn_down")) + 64;
  int num_answered = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::string damaged = bytes;
    const int num_flips = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < num_flips; ++i) {
      const size_t at = random() % (seed % 3 == 0 ? bytes.size() : header_end);
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    }
    num_answered += Use(damaged) ? 1 : 0;
  }
  EXPECT_GT(num_answered, 0);
  EXPECT_LT(num_answered, 150);
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, WeightsThatAreNotNumbersEndInAnError) {
  const std::string bytes = TinyGeneratorBytes({});
  std::string damaged = bytes;
  for (size_t i = bytes.size() - 200'000; i + 4 <= bytes.size(); i += 4) {
    damaged.replace(i, 4, "\xFF\xFF\xFF\x7F");
  }
  EXPECT_FALSE(Use(damaged));
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, HostileSizesAreRefusedWithoutBeingAllocated) {
  const auto build = [](const std::string& key, uint32_t value) {
    model::GgufBuilder builder = model::TinyBpe().Builder();
    // The first entry of a key counts or the file is refused; either way nobody believes it.
    builder.AddUint32(key, value);
    model::AddTinyModel({.vocab = 266}, 1, &builder);
    return builder.Build();
  };
  for (const char* key :
       {"llama.block_count", "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.head_count_kv", "llama.attention.key_length",
        "llama.context_length", "llama.vocab_size", "general.alignment",
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eot_token_id"}) {
    for (const uint32_t value : {0U, 1U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
      SCOPED_TRACE(std::string(key) + "=" + std::to_string(value));
      Use(build(key, value));
    }
  }
  Use(model::GgufBuilder().set_num_tensors(int64_t{1} << 62).Build());
  Use(model::GgufBuilder().set_num_entries(int64_t{1} << 62).Build());
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, AnUnknownFamilyIsNamed) {
  model::GgufBuilder builder = model::TinyBpe().Builder();
  builder.AddString("general.architecture", "mamba");
  const auto error = Fail("CREATE MODEL bad FROM '" + WriteModel(builder.Build()) + "'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kUnsupported);
  EXPECT_NE(error.message.find("mamba"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("qwen3"), std::string::npos) << error.message;
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, ADamagedEmbedderIsRefused) {
  std::string weights = storage::ReadFile(embedder_path() + "/model.safetensors");
  const auto use = [&](const std::string& file, const std::string& bytes) {
    WriteTinyEmbedder(folder_ / "bad");
    storage::WriteFile(folder_ / ("bad/" + file), bytes);
    const auto created =
        Execute("CREATE MODEL bad TYPE EMBEDDING FROM '" + (folder_ / "bad") + "'");
    if (!created.ok()) return false;
    const bool is_used =
        Execute("CREATE COLLECTION bad WITH (embedding = bad)").ok() &&
        Execute("INSERT INTO bad (id, content) VALUES ('a', 'The harbour.')").ok() &&
        Execute("SEARCH 'harbour' IN bad").ok();
    Run("DROP COLLECTION IF EXISTS bad");
    Run("DROP MODEL bad");
    return is_used;
  };
  EXPECT_FALSE(use("model.safetensors", weights.substr(0, weights.size() / 2)));
  EXPECT_FALSE(use("model.safetensors", ""));
  EXPECT_FALSE(use("config.json", "{"));
  EXPECT_FALSE(use("config.json", "[]"));
  EXPECT_FALSE(use("vocab.txt", ""));
  int num_used = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::string damaged = weights;
    const size_t at = random() % (seed % 2 == 0 ? size_t{4'000} : damaged.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    num_used += use("model.safetensors", damaged) ? 1 : 0;
  }
  EXPECT_GT(num_used, 0);
  for (size_t i = 8'000; i + 4 <= weights.size(); i += 4) {
    weights.replace(i, 4, "\xFF\xFF\xFF\x7F");
  }
  EXPECT_FALSE(use("model.safetensors", weights));
  ExpectUnchangedAndUsable();
}

TEST_F(BadModelsTest, AModelThatVanishesIsAnErrorUntilItIsBack) {
  Open();
  std::filesystem::rename(generator_path(), folder_ / "elsewhere.gguf");
  const auto error = Fail("ANSWER 'harbour?' FROM docs");
  EXPECT_NE(error.message.find("put the file back"), std::string::npos) << error.message;
  EXPECT_FALSE(Run("SEARCH 'harbour' IN docs").rows.empty());
  std::filesystem::rename(folder_ / "elsewhere.gguf", generator_path());
  ExpectUnchangedAndUsable();
}

}  // namespace
}  // namespace intarsia::engine
