#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/embedder.h"

namespace intarsia::model {
namespace {

constexpr char kFolder[] = "models/all-MiniLM-L6-v2";

// Vectors of the real sentence-transformers, written by tools/make_embedding_goldens.py.
class EmbedderParityTest : public testing::TestWithParam<EmbedderPrecision> {};

TEST_P(EmbedderParityTest, MiniLmGivesTheVectorsOfSentenceTransformers) {
  FileSystem* const files = FileSystem::Local();
  if (!files->Exists(std::string(kFolder) + "/model.safetensors")) {
    GTEST_SKIP() << kFolder << " is absent: run tools/fetch_models.sh minilm";
  }
  ThreadPool pool;
  const auto embedder = Embedder::Load(kFolder, {.pool = &pool, .precision = GetParam()});
  ASSERT_TRUE(embedder.ok()) << embedder.status();

  const auto text = files->ReadAll("tests/data/embedding/minilm.json", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json golden = nlohmann::json::parse(*text);
  EXPECT_EQ((*embedder)->max_tokens(), golden["max_tokens"].get<int>());
  std::vector<std::string> texts;
  for (const auto& item : golden["items"]) texts.push_back(item["text"].get<std::string>());
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto dim = static_cast<size_t>((*embedder)->dimension());
  std::vector<float> vectors(texts.size() * dim);
  const Status status = (*embedder)->Embed(views, TextRole::kDocument, vectors.data(), nullptr);
  ASSERT_TRUE(status.ok()) << status;

  double smallest = 1.0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto expected = golden["items"][i]["vector"].get<std::vector<double>>();
    ASSERT_EQ(expected.size(), dim);
    double product = 0.0, square_sum = 0.0;
    for (size_t j = 0; j < dim; ++j) {
      product += double{vectors[i * dim + j]} * expected[j];
      square_sum += expected[j] * expected[j];
    }
    const double cosine = product / std::sqrt(square_sum);
    EXPECT_GE(cosine, GetParam() == EmbedderPrecision::kF32 ? 0.999999 : 0.9999) << texts[i];
    smallest = std::min(smallest, cosine);
  }
  RecordProperty("smallest_cosine", std::to_string(smallest));
}

INSTANTIATE_TEST_SUITE_P(Precisions, EmbedderParityTest,
                         testing::Values(EmbedderPrecision::kF32, EmbedderPrecision::kFastest),
                         [](const auto& precision) {
                           return precision.param == EmbedderPrecision::kF32 ? "F32" : "Fastest";
                         });

}  // namespace
}  // namespace intarsia::model
