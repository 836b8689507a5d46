// DeviceBackend: prompts and answers on a device beside those on the CPU.
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

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

class DeviceBackendCudaTest : public kernels::DeviceTest,
                              public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DeviceBackendCudaTest, StepsGiveTheLogitsAndTheAttentionOfTheCpu) {
  BackendScene both(GetParam());
  const Prompt prompt = both.scene.prompt();
  const model::ModelConfig& config = both.scene.transformer().config();
  for (const std::string selector : {"none", "stride", "full"}) {
    SCOPED_TRACE(selector);
    const FusionOptions options = {.selector = selector, .ratio = 0.3};
    const StartedRun expected = Take(both.cpu.Prefill(prompt, options, kNumNewTokens, nullptr));
    const StartedRun started = Take(both.device->Prefill(prompt, options, kNumNewTokens, nullptr));
    EXPECT_EQ(started.rows, expected.rows);
    EXPECT_TRUE(kernels::ArraysAgree(started.logits, expected.logits, kTolerance));
    const std::vector<int32_t> tokens = model::SomeTokens(8, config.vocab_size, 7);
    int64_t position = prompt.num_tokens();
    for (const int32_t token : tokens) {
      const FusedStep wanted = Take(expected.run->Step(token, position, nullptr));
      const FusedStep step = Take(started.run->Step(token, position, nullptr));
      ++position;
      EXPECT_TRUE(kernels::ArraysAgree(Copy(step.logits), Copy(wanted.logits), kTolerance));
      ASSERT_EQ(std::ssize(step.attention), position);
      EXPECT_TRUE(kernels::ArraysAgree(Copy(step.attention), Copy(wanted.attention), kTolerance));
      // Each layer hands out one.
      const double sum = std::accumulate(step.attention.begin(), step.attention.end(), 0.0);
      EXPECT_NEAR(sum, config.num_layers - FirstObservedLayer(config.num_layers), 0.05);
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
    std::vector<std::vector<float>> seen;
    int64_t position = prompt.num_tokens();
    for (const int32_t token : tokens) {
      const FusedStep step = Take(started.run->Step(token, position++, nullptr));
      seen.push_back(Copy(step.logits));
      seen.push_back(Copy(step.attention));
    }
    return seen;
  };
  const auto first = run();
  EXPECT_EQ(run(), first);
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
      last = Copy(Take(started.run->Step(token, position++, nullptr)).logits);
    }
    return last;
  };
  const std::vector<float> expected = answer();
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 3; ++i) result = answer();
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
    EXPECT_TRUE(started.run->Step(1, prompt.num_tokens(), nullptr).ok());
    EXPECT_EQ(started.run->Step(1, 256, nullptr).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(started.run->Step(1, -1, nullptr).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(started.run->Step(-1, prompt.num_tokens(), nullptr).status().code(),
              StatusCode::kInvalidArgument);
    CancelToken cancel;
    cancel.Cancel();
    EXPECT_EQ(started.run->Step(1, prompt.num_tokens(), &cancel).status().code(),
              StatusCode::kCancelled);
    EXPECT_TRUE(started.run->Step(1, prompt.num_tokens(), nullptr).ok());
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
