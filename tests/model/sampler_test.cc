#include "model/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::model {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::map<int32_t, int> Draw(const SamplerOptions& options, const std::vector<float>& logits,
                            int count) {
  const Sampler sampler = *Sampler::Create(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < count; ++i) ++counts[*sampler.Next(logits, i)];
  return counts;
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  const std::vector<float> logits = {0.0f, 3.0f, 3.0f, -kInfinity};
  EXPECT_EQ(Draw({}, logits, 5), (std::map<int32_t, int>{{1, 5}}));
  EXPECT_EQ(Draw({.temperature = 2.0, .top_k = 1}, logits, 5), (std::map<int32_t, int>{{1, 5}}));
}

TEST(SamplerTest, FrequenciesAreTheProbabilities) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  constexpr int kDraws = 20'000;
  const std::map<int32_t, int> counts = Draw({.temperature = 1.0, .seed = 7}, logits, kDraws);
  EXPECT_NEAR(counts.at(0) / double{kDraws}, 0.5, 0.02);
  EXPECT_NEAR(counts.at(1) / double{kDraws}, 0.3, 0.02);
  EXPECT_NEAR(counts.at(2) / double{kDraws}, 0.2, 0.02);
}

TEST(SamplerTest, TemperatureFlattens) {
  const std::vector<float> logits = {2.0f, 0.0f};
  const int cold = Draw({.temperature = 0.5, .seed = 1}, logits, 5'000)[1];
  const int hot = Draw({.temperature = 4.0, .seed = 1}, logits, 5'000)[1];
  EXPECT_LT(cold, 200);
  EXPECT_GT(hot, 1'500);
}

TEST(SamplerTest, TopKAndTopPLeaveOutTheTail) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.3f),
                                     std::log(0.2f)};
  EXPECT_EQ(Draw({.temperature = 1.0, .top_k = 2, .seed = 3}, logits, 2'000).size(), 2u);
  const auto nucleus = Draw({.temperature = 1.0, .top_p = 0.6, .seed = 3}, logits, 2'000);
  EXPECT_EQ(nucleus.size(), 2u);
  EXPECT_TRUE(nucleus.contains(1) && nucleus.contains(2));
}

TEST(SamplerTest, EqualSeedsGiveEqualTokens) {
  std::vector<float> logits;
  for (int i = 0; i < 500; ++i) logits.push_back(static_cast<float>(i % 17));
  const Sampler first = *Sampler::Create({.temperature = 1.0, .seed = 42});
  const Sampler second = *Sampler::Create({.temperature = 1.0, .seed = 42});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(*first.Next(logits, i), *second.Next(logits, i));
}

TEST(SamplerTest, RuledOutTokensAreNeverDrawn) {
  const std::vector<float> logits = {-kInfinity, 0.0f, -kInfinity};
  EXPECT_EQ(Draw({.temperature = 10.0, .seed = 5}, logits, 100),
            (std::map<int32_t, int>{{1, 100}}));
}

TEST(SamplerTest, WhatIsNotANumberIsNeverDrawn) {
  std::vector<float> logits;
  for (int i = 0; i < 3'000; ++i) {
    logits.push_back(i % 3 == 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(i));
  }
  for (const double temperature : {0.0, 1.0, 10.0}) {
    const auto counts = Draw({.temperature = temperature, .seed = 5}, logits, 200);
    // The likeliest stay the likeliest.
    for (const auto& [token, count] : counts) {
      EXPECT_NE(token % 3, 0) << temperature;
      EXPECT_GT(token, 1'500) << temperature;
    }
  }
}

TEST(SamplerTest, LogitsWithoutAFiniteNumberAreAnError) {
  const Sampler sampler = *Sampler::Create({});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampler.Next(std::vector<float>{nan, nan}, 0).status().code(), StatusCode::kInternal);
  EXPECT_EQ(sampler.Next(std::vector<float>{-kInfinity}, 0).status().code(), StatusCode::kInternal);
  EXPECT_EQ(sampler.Next(std::vector<float>{}, 0).status().code(), StatusCode::kInternal);
}

TEST(SamplerTest, OptionsThatAFloatCannotHoldAreStillMeant) {
  const std::vector<float> logits = {1.0f, 2.0f, 0.0f};
  EXPECT_EQ(Draw({.temperature = 1.0, .top_p = 1e-300}, logits, 50),
            (std::map<int32_t, int>{{1, 50}}));
  for (const double temperature : {1e-20, 1e-40, 1e-300}) {
    EXPECT_EQ(Draw({.temperature = temperature}, logits, 50), (std::map<int32_t, int>{{1, 50}}));
  }
  EXPECT_EQ(Sampler::Create({.top_k = int64_t{1} << 40})->rule().top_k,
            std::numeric_limits<int32_t>::max());
}

TEST(SamplerTest, BadOptionsAreRefused) {
  const double nan = std::nan("");
  for (const SamplerOptions& options :
       {SamplerOptions{.temperature = -0.1}, SamplerOptions{.temperature = nan},
        SamplerOptions{.top_k = -1}, SamplerOptions{.top_p = 0.0}, SamplerOptions{.top_p = 1.1}}) {
    EXPECT_EQ(Sampler::Create(options).status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace intarsia::model
