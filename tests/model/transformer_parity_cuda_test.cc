// A real model on a device against the same on the CPU: 64 greedy tokens of 20 prompts.
//
// The CPU, in f32, leads: both are fed its tokens. Where the device would choose another one, the
// CPU's logits of the two must be so close that the device's rounding to bf16 explains it. Each
// prompt's first difference is printed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"

namespace intarsia::model {
namespace {

constexpr const char* kModelPath = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr int kNumSteps = 64;

// Bound on the RMS difference of a row's logits, whose own deviation is about 4. The largest of
// 1,280 rows on an H200 was 0.404.
constexpr double kRmsMax = 0.6;

// How far the CPU's logit of the device's token may be below its largest, as a multiple of the
// row's RMS difference r. The difference of two logits is off by 1.4 r.
constexpr double kGapFactor = 5.0;

constexpr const char* kPrompts[] = {
    "The capital of France is",
    "Water boils at a temperature of",
    "A database index makes a query faster because",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "The three laws of motion state that",
    "To bake bread you need flour, water,",
    "SELECT name, count(*) FROM orders",
    "In 1969, the first humans",
    "Photosynthesis is the process by which",
    "The quick brown fox",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 1, 2, 3, 5, 8, 13,",
    "The difference between a virus and a bacterium is",
    "Question: Who wrote Hamlet?\nAnswer:",
    "Chess is played on a board of",
    "{\"name\": \"Alice\", \"age\":",
    "A transformer is a neural network that",
    "Mount Everest, the highest mountain on Earth,",
    "List three advantages of solar energy:\n1.",
};

class TransformerParityCudaTest : public kernels::DeviceTest,
                                  public ::testing::WithParamInterface<int> {
 protected:
  static void TearDownTestSuite() {
    model_.reset();
    tokenizer_.reset();
    file_.reset();
  }

  // Once for all prompts.
  void SetUp() override {
    kernels::DeviceTest::SetUp();
    if (IsSkipped() || model_ != nullptr) return;
    auto file = GgufFile::Open(kModelPath, FileSystem::Local());
    if (!file.ok()) GTEST_SKIP() << "no model: " << file.status();
    file_ = *std::move(file);
    tokenizer_ = Take(LoadTokenizer(*file_));
    model_ = std::make_unique<DeviceModel>(*file_);
  }

  static std::unique_ptr<GgufFile> file_;
  static std::unique_ptr<Tokenizer> tokenizer_;
  static std::unique_ptr<DeviceModel> model_;
};

std::unique_ptr<GgufFile> TransformerParityCudaTest::file_;
std::unique_ptr<Tokenizer> TransformerParityCudaTest::tokenizer_;
std::unique_ptr<DeviceModel> TransformerParityCudaTest::model_;

int32_t LargestOf(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

double RmsDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

TEST_P(TransformerParityCudaTest, GreedyTokensAreThoseOfTheCpuWithinRounding) {
  std::vector<int32_t> tokens =
      Take(tokenizer_->Encode(kPrompts[GetParam()], SpecialTokens::kAsText));
  const auto capacity = static_cast<int64_t>(tokens.size()) + kNumSteps;
  const auto cpu_cache = model_->NewCpuCache(capacity);
  const auto kv = Take(model_->kv_pool->Allocate(capacity, model_->stream.get()));
  int32_t position = 0;
  int num_equal = 0;
  double rms_max = 0.0;
  for (int step = 0; step < kNumSteps; ++step) {
    const std::vector<int32_t> positions = PositionsFrom(position, tokens.size());
    const auto cpu =
        model_->cpu->Forward({.tokens = tokens, .positions = positions}, cpu_cache.get());
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    const std::vector<float> device = model_->Forward(tokens, positions, *kv);
    const double rms = RmsDifference(device, *cpu);
    rms_max = std::max(rms_max, rms);
    ASSERT_LT(rms, kRmsMax) << "step " << step;
    const int32_t want = LargestOf(*cpu);
    const int32_t got = LargestOf(device);
    if (got == want) {
      ++num_equal;
    } else {
      const double gap =
          double{(*cpu)[static_cast<size_t>(want)]} - double{(*cpu)[static_cast<size_t>(got)]};
      if (num_equal == step) {
        std::printf("prompt %d: first difference at step %d: margin %.4f, rounding %.4f\n",
                    GetParam(), step, gap, rms);
      }
      EXPECT_LE(gap, kGapFactor * rms) << "step " << step;
    }
    position += static_cast<int32_t>(tokens.size());
    tokens = {want};
  }
  std::printf("prompt %d: %d of %d tokens equal, rounding of a logit at most %.4f\n", GetParam(),
              num_equal, kNumSteps, rms_max);
}

INSTANTIATE_TEST_SUITE_P(Prompts, TransformerParityCudaTest,
                         ::testing::Range(0, static_cast<int>(std::size(kPrompts))));

}  // namespace
}  // namespace intarsia::model
