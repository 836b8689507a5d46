// DeviceBackend: prompts and answers on a device beside those on the CPU.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fusion/cpu_backend.h"
#include "engine/fusion/device_backend.h"
#include "engine/fusion/fused_prefill.h"
#include "tests/engine/fusion_scene.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

using model::Take;

constexpr int64_t kNumNewTokens = 12;

// The device works in bf16, the CPU here in f32.
constexpr kernels::Tolerance kTolerance = {.absolute = 1e9, .relative = 0.0, .nmse = 5e-3};

// A fusion scene with both backends.
struct BackendScene {
  explicit BackendScene(std::string_view family, int64_t kv_bytes_max = int64_t{16} << 20)
      : tiny({.family = family, .hidden = 128, .head_dim = 64, .ffn = 192, .window = 40}),
        scene(*tiny.file, kernels::ComputeType::kF32, 50),
        cpu({std::shared_ptr<void>(), &scene.transformer()}),
        device(Take(DeviceBackend::Load(
            *tiny.file, {.index = 0, .kv_bytes_max = kv_bytes_max, .threads = &threads}))) {}

  ThreadPool threads{2};
  model::TinyModel tiny;
  FusionScene scene;
  CpuBackend cpu;
  std::unique_ptr<DeviceBackend> device;
};

// What a step attends to, up to its own position.
std::vector<float> AttentionOf(const FusedStep& step, int64_t position) {
  EXPECT_GT(std::ssize(step.attention), position);
  for (const float rest : step.attention.subspan(static_cast<size_t>(position) + 1)) {
    EXPECT_EQ(rest, 0.0f);
  }
  const auto begin = step.attention.begin();
  return {begin, begin + position + 1};
}

model::Sampler SamplerOf(const model::SamplerOptions& options) {
  return Take(model::Sampler::Create(options));
}
const model::Sampler& Greedy() {
  static const model::Sampler sampler = SamplerOf({});
  return sampler;
}

class DeviceBackendCudaTest : public kernels::DeviceTest,
                              public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DeviceBackendCudaTest, StepsGiveTheTokensAndTheAttentionOfTheCpu) {
  BackendScene both(GetParam());
  const Prompt prompt = both.scene.prompt();
  const model::ModelConfig& config = both.scene.transformer().config();
  for (const std::string selector : {"none", "stride", "full"}) {
    SCOPED_TRACE(selector);
    const FusionOptions options = {.selector = selector, .ratio = 0.3};
    const StartedRun expected = Take(both.cpu.Prefill(prompt, options, kNumNewTokens, nullptr));
    const FusedContext context =
        Take(FusedPrefill(both.scene.transformer(), prompt, options, kNumNewTokens, nullptr));
    const StartedRun started = Take(both.device->Prefill(prompt, options, kNumNewTokens, nullptr));
    EXPECT_EQ(started.rows, expected.rows);
    EXPECT_TRUE(kernels::ArraysAgree(started.logits, expected.logits, kTolerance));
    const std::vector<int32_t> tokens = model::SomeTokens(8, config.vocab_size, 7);
    int64_t position = prompt.num_tokens();
    for (const int32_t token : tokens) {
      const FusedStep wanted = Take(expected.run->Step(token, position, Greedy(), nullptr));
      const FusedStep step = Take(started.run->Step(token, position, Greedy(), nullptr));
      const std::vector<float> attention = AttentionOf(step, position);
      EXPECT_TRUE(kernels::ArraysAgree(attention, AttentionOf(wanted, position), kTolerance));
      // Each layer hands out one.
      const double sum = std::accumulate(attention.begin(), attention.end(), 0.0);
      EXPECT_NEAR(sum, config.num_layers - FirstObservedLayer(config.num_layers), 0.05);
      // The CPU's token, or one that it finds almost as likely.
      const auto at = static_cast<int32_t>(position++);
      const std::vector<float> logits = Take(both.scene.transformer().Forward(
          {.tokens = {&token, 1}, .positions = {&at, 1}}, context.cache.get()));
      const auto [least, most] = std::ranges::minmax(logits);
      ASSERT_LT(step.next_token, std::ssize(logits));
      EXPECT_GE(logits[static_cast<size_t>(step.next_token)], most - 0.1f * (most - least));
      EXPECT_EQ(logits[static_cast<size_t>(wanted.next_token)], most);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DeviceBackendCudaTest,
                         ::testing::ValuesIn(model::TinyFamilies()));

class DeviceBackendCudaLlamaTest : public kernels::DeviceTest {};

TEST_F(DeviceBackendCudaLlamaTest, AStepCanBeTakenAgain) {
  BackendScene both("llama");
  const Prompt prompt = both.scene.prompt();
  const StartedRun started = Take(both.device->Prefill(prompt, {}, kNumNewTokens, nullptr));
  const std::vector<int32_t> tokens = model::SomeTokens(8, 160, 7);
  const auto run = [&] {
    std::vector<std::pair<int32_t, std::vector<float>>> seen;
    int64_t position = prompt.num_tokens();
    for (const int32_t token : tokens) {
      const FusedStep step = Take(started.run->Step(token, position, Greedy(), nullptr));
      seen.emplace_back(step.next_token, AttentionOf(step, position++));
    }
    return seen;
  };
  const auto first = run();
  EXPECT_EQ(run(), first);
}

// The token that a step draws is left on the device for the next one. Giving each token anew, and
// launching what the graph was recorded from, must not make a difference.
TEST_F(DeviceBackendCudaLlamaTest, AnAnswerThatStaysOnTheDeviceIsTheOneThatIsGivenTokenByToken) {
  BackendScene both("llama");
  const Prompt prompt = both.scene.prompt();
  for (const model::SamplerOptions& options :
       {model::SamplerOptions{},
        model::SamplerOptions{.temperature = 1.0, .top_k = 50, .top_p = 0.95, .seed = 7}}) {
    const model::Sampler sampler = SamplerOf(options);
    std::vector<std::pair<int32_t, std::vector<float>>> expected;
    for (int round = 0; round < 3; ++round) {
      const StartedRun started = Take(both.device->Prefill(prompt, {}, kNumNewTokens, nullptr));
      int64_t position = prompt.num_tokens();
      int32_t token = Take(sampler.Next(started.logits, position - 1));
      std::vector<std::pair<int32_t, std::vector<float>>> seen;
      const int64_t num_tokens = kernels::TestCount(kNumNewTokens, 5);
      for (int64_t i = 0; i < num_tokens; ++i) {
        // Another rule in between makes the decoder begin anew.
        if (round == 2) {
          const auto other = started.run->Step(token, position, SamplerOf({.seed = 9}), nullptr);
          EXPECT_TRUE(other.ok()) << other.status();
        }
        const FusedStep step = Take(started.run->Step(token, position, sampler, nullptr));
        token = step.next_token;
        seen.emplace_back(token, AttentionOf(step, position++));
      }
      if (round == 0)
        expected = std::move(seen);
      else
        EXPECT_EQ(seen, expected) << round;
    }
  }
}

TEST_F(DeviceBackendCudaLlamaTest, AnswersOfSeveralThreadsAreThoseOfOne) {
  BackendScene both("llama");
  const Prompt prompt = both.scene.prompt();
  const std::vector<int32_t> tokens = model::SomeTokens(8, 160, 7);
  const auto answer = [&] {
    const StartedRun started = Take(both.device->Prefill(prompt, {}, kNumNewTokens, nullptr));
    std::vector<float> last;
    int64_t position = prompt.num_tokens();
    for (const int32_t token : tokens) {
      const FusedStep step = Take(started.run->Step(token, position, Greedy(), nullptr));
      last = AttentionOf(step, position++);
      last.push_back(static_cast<float>(step.next_token));
    }
    return last;
  };
  const std::vector<float> expected = answer();
  const int64_t num_rounds = kernels::TestCount(3, 1);
  std::vector<std::vector<float>> results(static_cast<size_t>(kernels::TestCount(4, 2)));
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      for (int64_t i = 0; i < num_rounds; ++i) result = answer();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& result : results) EXPECT_EQ(result, expected);
}

TEST_F(DeviceBackendCudaLlamaTest, WhatDoesNotFitIsAnErrorAndLeavesTheRestUsable) {
  // Two pages of 128 tokens: enough for one prompt and its answer.
  const int64_t page_bytes = int64_t{2} * 4 * 2 * 64 * 128 * 2;
  BackendScene both("llama", 2 * (page_bytes + 64));
  const Prompt prompt = both.scene.prompt();
  ASSERT_LE(prompt.num_tokens() + kNumNewTokens, 256);
  const auto code = [&](int64_t num_new_tokens) {
    return both.device->Prefill(prompt, {}, num_new_tokens, nullptr).status().code();
  };
  EXPECT_EQ(code(1000), StatusCode::kResourceExhausted);
  {
    const StartedRun started = Take(both.device->Prefill(prompt, {}, kNumNewTokens, nullptr));
    EXPECT_EQ(code(kNumNewTokens), StatusCode::kResourceExhausted);
    EXPECT_TRUE(started.run->Step(1, prompt.num_tokens(), Greedy(), nullptr).ok());
    EXPECT_EQ(started.run->Step(1, 256, Greedy(), nullptr).status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(started.run->Step(1, -1, Greedy(), nullptr).status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(started.run->Step(-1, prompt.num_tokens(), Greedy(), nullptr).status().code(),
              StatusCode::kInvalidArgument);
    CancelToken cancel;
    cancel.Cancel();
    EXPECT_EQ(started.run->Step(1, prompt.num_tokens(), Greedy(), &cancel).status().code(),
              StatusCode::kCancelled);
    EXPECT_TRUE(started.run->Step(1, prompt.num_tokens(), Greedy(), nullptr).ok());
  }
  EXPECT_EQ(code(kNumNewTokens), StatusCode::kOk);
  EXPECT_TRUE(both.device->Health().ok());
}

TEST_F(DeviceBackendCudaLlamaTest, AModelWithoutKernelsAndABudgetWithoutAPageAreRefused) {
  ThreadPool threads(1);
  const model::TinyModel narrow({.family = "llama"});
  const auto code = [&](const model::TinyModel& tiny, const DeviceModelOptions& options) {
    return DeviceBackend::Load(*tiny.file, options).status().code();
  };
  EXPECT_EQ(code(narrow, {.threads = &threads}), StatusCode::kUnsupported);
  const model::TinyModel wide({.family = "llama", .hidden = 128, .head_dim = 64, .ffn = 192});
  EXPECT_EQ(code(wide, {.kv_bytes_max = 1000, .threads = &threads}),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(code(wide, {.index = 1000, .threads = &threads}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(wide, {.threads = &threads}), StatusCode::kOk);
}

}  // namespace
}  // namespace intarsia::engine
