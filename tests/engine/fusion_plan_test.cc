#include "engine/fusion/fusion_plan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::engine {
namespace {

// A header of 8 tokens, two cached chunks and a question of 64. The first chunk is exact, so the
// candidates are those of the second.
class PlanOfProbes {
 public:
  explicit PlanOfProbes(int64_t num_candidates)
      : prompt_(*Prompt::Create(Part(8), std::vector<PromptPart>{Part(8), Part(num_candidates)},
                                std::vector<int32_t>(64, 1))) {}

  FusionPlan Make(const std::string& selector, ProbePass probes, double probe_share) const {
    const FusionOptions options = {
        .selector = selector, .ratio = 0.5, .probes = probes, .probe_share = probe_share};
    return MakeFusionPlan(prompt_, options, **MakeFusionSelector(options));
  }

 private:
  PromptPart Part(int64_t size) {
    caches_.push_back(std::make_unique<MemoryKv>(KvPayloadType::kBf16, size,
                                                 std::vector<std::vector<uint8_t>>()));
    return {.tokens = std::vector<int32_t>(static_cast<size_t>(size), 9),
            .cached = caches_.back().get()};
  }

  std::vector<std::unique_ptr<MemoryKv>> caches_;
  const Prompt prompt_;
};

TEST(FusionPlanTest, KeptProbesFillTheTilesOfTheirPass) {
  const PlanOfProbes plans(1000);
  // 70 probes and 64 fresh rows are 6 above two tiles.
  for (const std::string selector : {"attention", "design"}) {
    const FusionPlan plan = plans.Make(selector, ProbePass::kWithQuestionOnly, 0.07);
    EXPECT_EQ(std::ssize(plan.fresh), 64) << selector;
    EXPECT_EQ(std::ssize(plan.probes), 64) << selector;
    EXPECT_TRUE(std::ranges::includes(plan.candidates, plan.probes)) << selector;
  }
}

TEST(FusionPlanTest, KeptProbesLoseAtMostAFifth) {
  const PlanOfProbes plans(1000);
  const auto num_probes = [&](double share) {
    return std::ssize(plans.Make("attention", ProbePass::kWithQuestionOnly, share).probes);
  };
  EXPECT_EQ(num_probes(0.064), 64);
  EXPECT_EQ(num_probes(0.08), 64);
  EXPECT_EQ(num_probes(0.081), 81);
  EXPECT_EQ(num_probes(0.063), 63);
  EXPECT_EQ(num_probes(0.01), 10);
  EXPECT_EQ(num_probes(0.0), 0);
}

TEST(FusionPlanTest, OtherProbesAreTheSelectorsOwn) {
  const PlanOfProbes plans(1000);
  EXPECT_EQ(std::ssize(plans.Make("attention", ProbePass::kWithRows, 0.07).probes), 70);
  EXPECT_EQ(std::ssize(plans.Make("attention", ProbePass::kWithQuestion, 0.07).probes), 70);
  EXPECT_TRUE(plans.Make("stride", ProbePass::kWithQuestionOnly, 0.07).probes.empty());
}

}  // namespace
}  // namespace intarsia::engine
