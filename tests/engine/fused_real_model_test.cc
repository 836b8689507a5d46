// Fusion with SmolLM2, where it is at hand.
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "model/tokenizer.h"
#include "tests/engine/fusion_scene.h"
#include "tests/model/logit_difference.h"

namespace intarsia::engine {
namespace {

using model::LogitDifference;

constexpr const char* kSmolLm2 = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

constexpr FusionOptions kFull = {.selector = "full"};

constexpr std::string_view kPassages[] = {
    "## Harbour\nThe harbour of Ostra was built in 1843 by the engineer Maria Lind. She chose the "
    "eastern bay, because its water is deep and the ice leaves it first in spring.\n\n",
    "## Lighthouse\nThe lighthouse stands on the rock of Halm. Its lamp was lit by oil until 1911, "
    "when Lind's grandson brought electric light to the town and to the harbour.\n\n",
    "## Railway\nThe railway reached Ostra in 1872. Fish from the harbour could now be sold in the "
    "capital on the day it was caught, and the town grew to four thousand people.\n\n",
    "## Fire\nA fire destroyed the old market in 1899. The engineer's daughter, Karin Lind, "
    "planned "
    "the new one beside the railway, with a roof of glass and iron.\n\n"};
constexpr std::string_view kQuestion = "Question: Who built the harbour of Ostra?\nAnswer:";

// KL divergence of the first answer token from that of full prefill.
double FirstTokenKl(const std::vector<float>& full, const std::vector<float>& other) {
  const auto log_sum = [](const std::vector<float>& logits) {
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    return std::log(sum);
  };
  const double full_sum = log_sum(full);
  const double other_sum = log_sum(other);
  double kl = 0.0;
  for (size_t i = 0; i < full.size(); ++i) {
    const double p = full[i] - full_sum;
    kl += std::exp(p) * (p - (other[i] - other_sum));
  }
  return kl;
}

TEST(FusedRealModelTest, PropagationBringsAnAnswerOverRealTextNearerToFullPrefill) {
  if (!std::filesystem::exists(kSmolLm2)) GTEST_SKIP() << "no " << kSmolLm2;
  const auto file = model::GgufFile::Open(kSmolLm2, FileSystem::Local());
  ASSERT_TRUE(file.ok());
  const auto tokenizer = model::LoadTokenizer(**file);
  ASSERT_TRUE(tokenizer.ok());
  const auto encode = [&](std::string_view text) {
    return *(*tokenizer)->Encode(text, model::SpecialTokens::kAsText);
  };
  FusionScene scene(**file, kernels::ComputeType::kF32, 1);
  std::vector<std::unique_ptr<MemoryKv>> caches;
  for (size_t i = 0; i < 4; ++i) {
    PromptPart& part = scene.chunks()[i];
    part.tokens = encode(kPassages[i]);
    auto cache = BuildKv(scene.transformer(), scene.header().cached, part.tokens, nullptr);
    ASSERT_TRUE(cache.ok());
    caches.push_back(*std::move(cache));
    part.cached = caches.back().get();
  }
  scene.question() = encode(kQuestion);
  const std::vector<float> full = scene.FullPrefill();
  const auto kl_of = [&](const std::string& selector, PropagationMode mode) {
    return FirstTokenKl(full,
                        scene.Run({.selector = selector, .ratio = 0.3, .propagate = mode}).logits);
  };
  EXPECT_LT(FirstTokenKl(full, scene.Run(kFull).logits), 1e-6);
  const double naive = FirstTokenKl(full, scene.Run({.selector = "none"}).logits);
  for (const std::string selector : {"stride", "attention"}) {
    const double propagated = kl_of(selector, PropagationMode::kTwoSided);
    EXPECT_LT(propagated, naive) << selector;
    // Of rows that a question has chosen, so little text says nothing: most of what its answer
    // needs is among them. Many long prompts do (BENCHMARKS.md).
    if (selector == "stride") {
      EXPECT_LT(propagated, kl_of(selector, PropagationMode::kOff));
    }
  }
}

TEST(FusedRealModelTest, RealModelAgreesWithItsFullPrefill) {
  if (!std::filesystem::exists(kSmolLm2)) GTEST_SKIP() << "no " << kSmolLm2;
  const auto file = model::GgufFile::Open(kSmolLm2, FileSystem::Local());
  ASSERT_TRUE(file.ok());
  FusionScene scene(**file, kernels::ComputeType::kF32, 60);
  const std::vector<float> full = scene.FullPrefill();
  EXPECT_LT(LogitDifference(scene.Run(kFull).logits, full), 1e-4);
  for (const std::string selector : {"prefix", "deviation", "stride", "attention"}) {
    EXPECT_LT(LogitDifference(scene.Run({.selector = selector, .ratio = 1.0}).logits, full), 1e-4);
  }
  scene.chunks().resize(1);
  EXPECT_LT(LogitDifference(scene.Run({.selector = "none"}).logits, scene.FullPrefill()), 1e-4);
}

}  // namespace
}  // namespace intarsia::engine
