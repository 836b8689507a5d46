// CREATE MODEL, DROP MODEL, SHOW MODELS and SET DEFAULT.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "kernels/int8_matrix.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class ModelStatementsTest : public EngineFixture {
 protected:
  void CreateBoth() {
    Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
    Run("CREATE MODEL g TYPE GENERATE FROM '" + generator_path() + "'");
  }
};

TEST_F(ModelStatementsTest, TheFirstOfAKindBecomesItsDefault) {
  const auto embedder = Run("CREATE MODEL e FROM '" + embedder_path() + "'");
  EXPECT_TRUE(HasNotice(embedder, "e is now the default to embed"));
  const auto first = Run("CREATE MODEL g FROM '" + generator_path() + "'");
  EXPECT_TRUE(HasNotice(first, "g is now the default to generate"));
  EXPECT_TRUE(HasNotice(first, "no chat template"));
  const auto second = Run("CREATE MODEL h FROM '" + generator_path() + "'");
  EXPECT_FALSE(HasNotice(second, "default"));

  const auto models = Run("SHOW MODELS");
  ASSERT_EQ(models.rows.size(), 3u);
  EXPECT_EQ(Text(models, "name", 0), "e");
  EXPECT_EQ(Text(models, "type", 0), "embedding");
  EXPECT_EQ(Text(models, "default", 0), "true");
  EXPECT_EQ(Text(models, "type", 1), "generate");
  EXPECT_EQ(Text(models, "architecture", 1), "llama");
  EXPECT_EQ(Text(models, "path", 1), generator_path());
  EXPECT_EQ(Text(models, "default", 1), "true");
  EXPECT_EQ(Text(models, "default", 2), "false");
}

TEST_F(ModelStatementsTest, ARelativePathIsStoredAsAnAbsoluteOne) {
  const std::string relative =
      std::filesystem::relative(generator_path(), std::filesystem::current_path()).string();
  Run("CREATE MODEL g FROM '" + relative + "'");
  EXPECT_TRUE(std::filesystem::equivalent(Text(Run("SHOW MODELS"), "path"), generator_path()));
  EXPECT_TRUE(Text(Run("SHOW MODELS"), "path").starts_with("/"));
}

TEST_F(ModelStatementsTest, ANameThatIsTakenIsAnErrorOrANotice) {
  CreateBoth();
  const auto error = Fail("CREATE MODEL g FROM '" + generator_path() + "'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kCatalog);
  EXPECT_EQ(error.message, "model \"g\" exists already");
  EXPECT_EQ(error.position.column, 14);
  const auto quiet = Run("CREATE MODEL IF NOT EXISTS g FROM 'nowhere.gguf'");
  EXPECT_TRUE(HasNotice(quiet, "nothing changed"));
  EXPECT_EQ(Run("SHOW MODELS").rows.size(), 2u);
}

TEST_F(ModelStatementsTest, AWrongKindOrDimensionIsRefused) {
  const auto folder = Fail("CREATE MODEL x TYPE GENERATE FROM '" + embedder_path() + "'");
  EXPECT_EQ(folder.hint, "A model that generates is one GGUF file; a folder embeds or reranks.");
  const auto file = Fail("CREATE MODEL x TYPE EMBEDDING FROM '" + generator_path() + "'");
  EXPECT_TRUE(file.hint.starts_with("A model that embeds or reranks is a folder")) << file.hint;
  const auto empty = Fail("CREATE MODEL x FROM '" + std::string(folder_ / "") + "'");
  EXPECT_EQ(empty.hint, "The folder needs config.json, model.safetensors and vocab.txt.");
  EXPECT_EQ(empty.error_class, query::ErrorClass::kInput);
  EXPECT_EQ(Fail("CREATE MODEL x FROM ''").message, "a path may not be empty");
  EXPECT_EQ(Fail("CREATE MODEL x FROM '" + generator_path() + "' WITH (dim = 24)").message,
            "dim is an option of models that embed");
  const auto dimension = Fail("CREATE MODEL x FROM '" + embedder_path() + "' WITH (dim = 384)");
  EXPECT_EQ(dimension.message, "the model has 24 dimensions, not dim = 384");
  EXPECT_TRUE(Run("SHOW MODELS").rows.empty());
  Run("CREATE MODEL x FROM '" + embedder_path() + "' WITH (dim = 24)");
}

TEST_F(ModelStatementsTest, ProductsAreComputedAsTheModelSays) {
  Run("CREATE MODEL g FROM '" + generator_path() + "' WITH (compute = 'f32')");
  EXPECT_FALSE(Fail("CREATE MODEL x FROM '" + generator_path() + "' WITH (compute = 'fp4')")
                   .message.empty());
  const auto embedding =
      Fail("CREATE MODEL x FROM '" + embedder_path() + "' WITH (compute = 'bf16')");
  EXPECT_EQ(embedding.message, "compute is an option of models that generate");
  const std::string int8 = "CREATE MODEL h FROM '" + generator_path() + "' WITH (compute = 'int8')";
  if (kernels::HasFastInt8()) {
    Run(int8);
  } else {
    EXPECT_NE(Fail(int8).message.find("compute = 'auto'"), std::string::npos);
  }
}

TEST_F(ModelStatementsTest, AMissingFileIsNamed) {
  const auto error = Fail("CREATE MODEL x FROM '/nowhere/model.gguf'");
  EXPECT_NE(error.message.find("/nowhere/model.gguf"), std::string::npos) << error.message;
  EXPECT_EQ(error.position.column, 21);
  EXPECT_EQ(error.error_class, query::ErrorClass::kInput);
}

TEST_F(ModelStatementsTest, DefaultsChangeAndSurviveReopening) {
  CreateBoth();
  Run("CREATE MODEL h FROM '" + generator_path() + "'");
  Run("SET DEFAULT GENERATE h");
  EXPECT_EQ(Fail("SET DEFAULT EMBEDDING h").message, "model \"h\" is of type generate");
  EXPECT_EQ(Fail("SET DEFAULT GENERATE j").hint, "Did you mean \"e\"?");
  Open();
  EXPECT_EQ(Text(Run("SHOW MODELS"), "default", 1), "false");
  EXPECT_EQ(Text(Run("SHOW MODELS"), "default", 2), "true");
}

TEST_F(ModelStatementsTest, DroppingTheDefaultLeavesNone) {
  CreateBoth();
  Run("CREATE COLLECTION docs");
  Run("INSERT INTO docs (id, content) VALUES ('a', 'The harbour.')");
  Run("DROP MODEL g");
  EXPECT_TRUE(HasNotice(Run("DROP MODEL IF EXISTS g"), "model g does not exist, nothing changed"));
  EXPECT_EQ(Fail("DROP MODEL g").message, "model \"g\" does not exist");
  const auto error = Fail("ANSWER 'harbour?' FROM docs");
  EXPECT_EQ(error.error_class, query::ErrorClass::kCatalog);
  EXPECT_EQ(error.message, "there is no default model to generate");
  EXPECT_NE(error.hint.find("CREATE MODEL"), std::string::npos);
}

TEST_F(ModelStatementsTest, AnEmbedderInUseStays) {
  CreateBoth();
  Run("CREATE COLLECTION docs");
  EXPECT_EQ(Fail("DROP MODEL e").message, "model \"e\" embeds collection \"docs\"");
  Run("DROP COLLECTION docs");
  Run("DROP MODEL e");
}

TEST_F(ModelStatementsTest, DroppingAGeneratorTakesItsCachesAndQueuedOnes) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md'");
  const int64_t num_cached = Number(Run("SHOW CACHE"), "entries");
  EXPECT_GT(num_cached, 0);
  // Its answer leaves tasks in the queue, which may be at work when the model goes.
  Run("ANSWER 'What is the harbour?' FROM docs WITH (max_tokens = 4, min_score = -1)");
  Run("DROP MODEL g");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 0);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "queued"), 0);
}

TEST_F(ModelStatementsTest, AnAnswerNamesAModelThatGenerates) {
  CreateFilledDocs();
  EXPECT_EQ(Fail("ANSWER 'harbour?' FROM docs USING e").message,
            "model \"e\" does not generate text");
  EXPECT_EQ(Fail("ANSWER 'harbour?' FROM docs USING gg").hint, "Did you mean \"g\"?");
}

TEST_F(ModelStatementsTest, ATokenizerOfAnotherModelIsRefused) {
  model::GgufBuilder builder = model::TinyBpe().Builder();
  model::AddTinyModel({.vocab = 160}, 1, &builder);
  storage::WriteFile(folder_ / "mixed.gguf", builder.Build());
  const auto error = Fail("CREATE MODEL x FROM '" + (folder_ / "mixed.gguf") + "'");
  EXPECT_EQ(error.error_class, query::ErrorClass::kInput);
  EXPECT_NE(error.message.find("vocabulary"), std::string::npos) << error.message;
}

}  // namespace
}  // namespace intarsia::engine
