#include "engine/fusion/row_selector.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::engine {
namespace {

// Header of 2, chunks of 4, 6 and 5 tokens (all cached), question of 3.
struct Example {
  std::vector<std::unique_ptr<MemoryKv>> caches;
  ThreadPool pool{2};
  Prompt prompt;

  Example() : prompt(Make()) {}
  Prompt Make() {
    const auto part = [this](int64_t size) {
      caches.push_back(std::make_unique<MemoryKv>(KvPayloadType::kBf16, size,
                                                  std::vector<std::vector<uint8_t>>()));
      return PromptPart{.tokens = std::vector<int32_t>(static_cast<size_t>(size), 9),
                        .cached = caches.back().get()};
    };
    const PromptPart header = part(2);
    const std::vector<PromptPart> chunks = {part(4), part(6), part(5)};
    return *Prompt::Create(header, chunks, std::vector<int32_t>{1, 2, 3});
  }
  std::vector<int32_t> Select(const std::string& name, int64_t budget,
                              const std::vector<float>& scores, double probe_share = 0.0,
                              const std::vector<int32_t>& taken = {}) {
    const auto selector = MakeRowSelector(name, {.probe_share = probe_share});
    const std::vector<int32_t> candidates = prompt.Candidates();
    const std::vector<int32_t> probes =
        EvenlySpaced(candidates, (*selector)->NumProbes(std::ssize(candidates), budget));
    return *(*selector)->Select({.prompt = &prompt,
                                 .candidates = candidates,
                                 .budget = budget,
                                 .scores = scores,
                                 .probes = probes,
                                 .taken = taken,
                                 .pool = &pool});
  }
};

TEST(RowSelectorTest, CandidatesAreTheCachedTokensThatAreNotExact) {
  Example example;
  EXPECT_EQ(example.prompt.Candidates(),
            (std::vector<int32_t>{6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}));
  EXPECT_EQ(example.prompt.FreshPositions(), (std::vector<int32_t>{17, 18, 19}));
}

TEST(RowSelectorTest, AMissedFirstChunkIsFreshAndTheNextIsNotExact) {
  Example example;
  const Prompt missed = example.prompt.WithoutCache(1);
  EXPECT_EQ(missed.FreshPositions(), (std::vector<int32_t>{2, 3, 4, 5, 17, 18, 19}));
  EXPECT_EQ(missed.Candidates().front(), 6);
}

TEST(RowSelectorTest, NoneAndFullAreTheExtremes) {
  Example example;
  EXPECT_TRUE(example.Select("none", 0, {}).empty());
  EXPECT_EQ(example.Select("full", 11, {}), example.prompt.Candidates());
}

TEST(RowSelectorTest, PrefixTakesEquallyManyOfEachChunk) {
  Example example;
  EXPECT_EQ(example.Select("prefix", 4, {}), (std::vector<int32_t>{6, 7, 12, 13}));
}

TEST(RowSelectorTest, StrideIsEvenlySpaced) {
  Example example;
  EXPECT_EQ(example.Select("stride", 4, {}), (std::vector<int32_t>{6, 8, 11, 14}));
  EXPECT_EQ(example.Select("stride", 11, {}), example.prompt.Candidates());
}

TEST(RowSelectorTest, ScoresDecideAndTiesGoToTheLowerPosition) {
  Example example;
  std::vector<float> scores(20, 0.5f);
  scores[2] = 9.0f;  // not a candidate: the first chunk is exact
  scores[16] = 2.0f;
  scores[9] = 1.0f;
  for (const std::string name : {"attention", "deviation"}) {
    EXPECT_EQ(example.Select(name, 4, scores), (std::vector<int32_t>{6, 7, 9, 16})) << name;
  }
}

TEST(RowSelectorTest, ProbesTakeAtMostHalfOfTheBudget) {
  Example example;
  std::vector<float> scores(20, 0.0f);
  scores[16] = 2.0f;
  scores[15] = 1.0f;
  EXPECT_EQ(example.Select("attention", 4, scores, /*probe_share=*/1.0),
            (std::vector<int32_t>{6, 11, 15, 16}));
}

TEST(RowSelectorTest, ProbesThatAreTakenAreAmongTheRowsOfEverySelectorThatAsks) {
  Example example;
  std::vector<float> scores(20, 0.0f);
  scores[16] = 2.0f;
  const std::vector<int32_t> candidates = example.prompt.Candidates();
  for (const std::string name : {"attention", "design"}) {
    const auto selector = MakeRowSelector(name, {.probe_share = 0.2});
    const int64_t num_probes = (*selector)->NumProbes(std::ssize(candidates), 4);
    EXPECT_EQ(num_probes, 2) << name;
    const std::vector<int32_t> probes = EvenlySpaced(candidates, num_probes);
    const std::vector<int32_t> rows = example.Select(name, 4, scores, 0.2, probes);
    EXPECT_EQ(std::ssize(rows), 4) << name;
    EXPECT_TRUE(std::ranges::includes(rows, probes)) << name;
    EXPECT_TRUE(std::ranges::binary_search(rows, 16)) << name;
  }
}

TEST(RowSelectorTest, UnknownNameListsTheKnownOnes) {
  const auto selector = MakeRowSelector("atention", {});
  EXPECT_EQ(selector.status().code(), StatusCode::kInvalidArgument);
  for (const std::string_view name : RowSelectorNames()) {
    EXPECT_NE(selector.status().message().find(name), std::string_view::npos);
  }
}

}  // namespace
}  // namespace intarsia::engine
