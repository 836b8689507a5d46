#include "engine/model_registry.h"

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/int8_matrix.h"
#include "tests/engine/tiny_engine_models.h"

namespace intarsia::engine {
namespace {

class ModelRegistryTest : public testing::Test {
 protected:
  ModelRegistryTest() : pool_(2), registry_(&pool_) {
    storage::WriteFile(path(), TinyGeneratorBytes({}));
    WriteTinyEmbedder(folder_ / "embedder");
    generator_ = *registry_.Inspect(path(), storage::ModelType::kGenerate);
    generator_.id = 1;
    generator_.name = "g";
    embedder_ = *registry_.Inspect(folder_ / "embedder", storage::ModelType::kEmbedding);
    embedder_.id = 2;
    embedder_.name = "e";
  }
  std::string path() const { return folder_ / "generator.gguf"; }

  storage::TemporaryDirectory folder_;
  ThreadPool pool_;
  ModelRegistry registry_;
  storage::ModelInfo generator_;
  storage::ModelInfo embedder_;
};

TEST_F(ModelRegistryTest, ModelsAreLoadedOnceAndShared) {
  EXPECT_EQ(registry_.GeneratorMemory().packed_bytes, 0);
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<const Generator>> loaded(4);
  for (size_t i = 0; i < loaded.size(); ++i) {
    threads.emplace_back([&, i] { loaded[i] = *registry_.GetGenerator(generator_); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& generator : loaded) EXPECT_EQ(generator, loaded[0]);
  EXPECT_GT(registry_.GeneratorMemory().packed_bytes, 0);
  EXPECT_EQ(*registry_.GetEmbedder(embedder_), *registry_.GetEmbedder(embedder_));
  // The tokenizer of a loaded generator is that generator's.
  EXPECT_EQ(registry_.GetTokenizer(generator_)->get(), loaded[0]->tokenizer.get());
}

TEST_F(ModelRegistryTest, ComputesAsTheModelSays) {
  generator_.parameters["compute"] = "f32";
  EXPECT_EQ((*registry_.GetGenerator(generator_))->transformer->compute(),
            kernels::ComputeType::kF32);
  registry_.Forget(generator_.id);
  generator_.parameters["compute"] = "int8";
  const auto int8 = registry_.GetGenerator(generator_);
  if (kernels::HasFastInt8()) {
    ASSERT_TRUE(int8.ok()) << int8.status();
    EXPECT_EQ((*int8)->transformer->compute(), kernels::ComputeType::kInt8);
  } else {
    EXPECT_EQ(int8.status().code(), StatusCode::kUnsupported);
  }
}

TEST_F(ModelRegistryTest, ADroppedModelLivesAsLongAsItIsUsed) {
  const auto generator = *registry_.GetGenerator(generator_);
  const auto tokenizer = *registry_.GetTokenizer(generator_);
  registry_.Forget(generator_.id);
  EXPECT_EQ(registry_.GeneratorMemory().packed_bytes, 0);
  EXPECT_TRUE(tokenizer->Encode("The harbour", model::SpecialTokens::kAsText).ok());
  EXPECT_NE(*registry_.GetGenerator(generator_), generator);
}

TEST_F(ModelRegistryTest, AFileThatChangedOrWentIsNotLoaded) {
  storage::WriteFile(path(), TinyGeneratorBytes({.seed = 2}));
  const auto changed = registry_.GetGenerator(generator_);
  EXPECT_EQ(changed.status().code(), StatusCode::kCorruption);
  EXPECT_NE(changed.status().message().find("model g: is no longer the file"), std::string::npos)
      << changed.status();
  std::filesystem::remove(path());
  const auto gone = registry_.GetGenerator(generator_);
  EXPECT_EQ(gone.status().code(), StatusCode::kNotFound);
  EXPECT_NE(gone.status().message().find("put the file back"), std::string::npos);
  EXPECT_EQ(registry_.GetTokenizer(generator_).status().code(), StatusCode::kNotFound);
  storage::WriteFile(path(), TinyGeneratorBytes({}));
  EXPECT_TRUE(registry_.GetGenerator(generator_).ok());

  WriteTinyEmbedder(folder_ / "embedder", 2);
  EXPECT_EQ(registry_.GetEmbedder(embedder_).status().code(), StatusCode::kCorruption);
}

TEST_F(ModelRegistryTest, AFileThatIsWrittenToBehindItsModelIsReadAgain) {
  const auto generator = *registry_.GetGenerator(generator_);
  EXPECT_EQ(*registry_.GetGenerator(generator_), generator);
  // What was cut off cannot be read from its mapping any more.
  std::filesystem::resize_file(path(), 1'000);
  const auto cut = registry_.GetGenerator(generator_);
  EXPECT_EQ(cut.status().code(), StatusCode::kCorruption);
  EXPECT_NE(cut.status().message().find("put the file back"), std::string::npos) << cut.status();
  storage::WriteFile(path(), TinyGeneratorBytes({}));
  const auto again = registry_.GetGenerator(generator_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_NE(*again, generator);
  // Another file under the name leaves the one that is loaded as it was.
  storage::WriteFile(path() + ".new", TinyGeneratorBytes({.seed = 2}));
  std::filesystem::rename(path() + ".new", path());
  EXPECT_EQ(*registry_.GetGenerator(generator_), *again);
}

TEST_F(ModelRegistryTest, InspectSaysWhatAModelIs) {
  EXPECT_EQ(generator_.architecture, "llama");
  EXPECT_EQ(generator_.parameters.at("layers"), "4");
  EXPECT_EQ(generator_.parameters.at("context_length"), "4096");
  EXPECT_EQ(embedder_.parameters.at("dimension"), "24");
  EXPECT_EQ(embedder_.parameters.at("max_tokens"), "128");
  EXPECT_NE(generator_.weights_digest, embedder_.weights_digest);
}

}  // namespace
}  // namespace intarsia::engine
