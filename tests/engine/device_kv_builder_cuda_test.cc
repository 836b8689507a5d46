// Caches that a device computes beside those of the CPU.
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fusion/device_kv_builder.h"
#include "engine/fusion/kv_builder.h"
#include "kernels/kv_codec.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

using model::Take;

// The device works in bf16, the CPU here in f32.
constexpr kernels::Tolerance kTolerance = {.absolute = 1e9, .relative = 0.0, .nmse = 5e-3};

struct BuilderScene {
  explicit BuilderScene(std::string_view family)
      : tiny({.family = family, .hidden = 128, .head_dim = 64, .ffn = 192, .window = 40}),
        device(*tiny.file),
        builder(Take(DeviceKvBuilder::Create(*device.cuda, device.kv_pool.get(), &device.pool))) {}

  std::vector<int32_t> Tokens(int64_t count, uint32_t seed) const {
    return model::SomeTokens(count, device.cpu->config().vocab_size, seed);
  }

  model::TinyModel tiny;
  model::DeviceModel device;
  std::unique_ptr<DeviceKvBuilder> builder;
};

std::vector<float> Decoded(const MemoryKv& cache, int32_t layer, kernels::KvHalf half,
                           int64_t width) {
  const std::span<const uint8_t> payload = cache.Resident(layer);
  std::vector<float> numbers(static_cast<size_t>(cache.num_tokens() * width));
  const Status status = kernels::DecodeKv({.type = cache.type(),
                                           .payload = payload.data(),
                                           .payload_bytes = std::ssize(payload),
                                           .num_tokens = cache.num_tokens(),
                                           .width = width,
                                           .half = half,
                                           .begin = 0,
                                           .count = cache.num_tokens(),
                                           .target = numbers.data()});
  EXPECT_TRUE(status.ok()) << status;
  return numbers;
}

void ExpectAlike(const MemoryKv& built, const MemoryKv& expected,
                 const model::ModelConfig& config) {
  ASSERT_EQ(built.type(), expected.type());
  ASSERT_EQ(built.num_tokens(), expected.num_tokens());
  ASSERT_EQ(std::ssize(built.layers()), config.num_layers);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const kernels::KvHalf half : {kernels::KvHalf::kKey, kernels::KvHalf::kValue}) {
      EXPECT_TRUE(kernels::ArraysAgree(Decoded(built, layer, half, config.kv_size()),
                                       Decoded(expected, layer, half, config.kv_size()),
                                       kTolerance))
          << "layer " << layer;
    }
  }
}

class DeviceKvBuilderCudaTest : public kernels::DeviceTest,
                                public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DeviceKvBuilderCudaTest, RunsOfAPassAreWhatTheCpuComputesOneByOne) {
  BuilderScene scene(GetParam());
  const model::Transformer& cpu = *scene.device.cpu;
  const std::vector<int32_t> header = scene.Tokens(5, 1);
  const auto header_kv = Take(BuildKv(cpu, nullptr, header, nullptr));
  // One, less than a page, over one, and all over again in other company.
  std::vector<std::vector<int32_t>> tokens;
  for (const int64_t size : {1, 57, 124, 300, 123, 16}) {
    tokens.push_back(scene.Tokens(size, 10 + static_cast<uint32_t>(size)));
  }
  for (const KvPayloadType type : {KvPayloadType::kBf16, KvPayloadType::kInt8}) {
    std::vector<std::unique_ptr<MemoryKv>> expected;
    KvRuns runs = {.header = header, .runs = {}, .type = type};
    for (const std::vector<int32_t>& run : tokens) {
      expected.push_back(Take(BuildKv(cpu, header_kv.get(), run, type, nullptr)));
      runs.runs.emplace_back(run);
    }
    const auto built = Take(scene.builder->Build(runs));
    ASSERT_EQ(built.size(), expected.size());
    for (size_t i = 0; i < built.size(); ++i) {
      SCOPED_TRACE(tokens[i].size());
      ExpectAlike(*built[i], *expected[i], cpu.config());
    }
    // Other runs beside it and another place in the pass change nothing but rounding.
    runs.runs = {tokens[3]};
    const auto alone = Take(scene.builder->Build(runs));
    ExpectAlike(*alone[0], *expected[3], cpu.config());
  }
}

TEST_P(DeviceKvBuilderCudaTest, AHeaderHasNothingInFront) {
  BuilderScene scene(GetParam());
  const std::vector<int32_t> header = scene.Tokens(23, 1);
  for (const KvPayloadType type : {KvPayloadType::kF32, KvPayloadType::kBf16}) {
    const auto built = Take(scene.builder->Build({.header = {}, .runs = {header}, .type = type}));
    const auto expected = Take(BuildKv(*scene.device.cpu, nullptr, header, type, nullptr));
    ASSERT_EQ(built.size(), 1U);
    ExpectAlike(*built[0], *expected, scene.device.cpu->config());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DeviceKvBuilderCudaTest,
                         ::testing::ValuesIn(model::TinyFamilies()));

class DeviceKvBuilderCudaLlamaTest : public kernels::DeviceTest {};

TEST_F(DeviceKvBuilderCudaLlamaTest, WhatCannotBeBuiltIsAnErrorAndLeavesTheRestUsable) {
  BuilderScene scene("llama");
  const std::vector<int32_t> header = scene.Tokens(5, 1);
  const std::vector<int32_t> run = scene.Tokens(30, 2);
  const std::vector<int32_t> none;
  const std::vector<int32_t> foreign = {1, 1 << 30};
  const std::vector<int32_t> negative = {-1};
  const auto code = [&](std::vector<std::span<const int32_t>> runs,
                        const CancelToken* cancel = nullptr) {
    return scene.builder
        ->Build({.header = header,
                 .runs = std::move(runs),
                 .type = KvPayloadType::kInt8,
                 .cancel = cancel})
        .status()
        .code();
  };
  EXPECT_EQ(code({}), StatusCode::kOk);
  EXPECT_EQ(code({run, none}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({run, foreign}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({negative}), StatusCode::kInvalidArgument);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(code({run}, &cancel), StatusCode::kCancelled);
  {
    // All pages are taken.
    const auto pages = Take(scene.device.kv_pool->Allocate(
        scene.device.kv_pool->num_free_pages() * kernels::kPageTokens, scene.device.stream.get()));
    EXPECT_EQ(code({run}), StatusCode::kResourceExhausted);
  }
  {
    // There are pages for two at once.
    const auto pages = Take(scene.device.kv_pool->Allocate(
        (scene.device.kv_pool->num_free_pages() - 2) * kernels::kPageTokens,
        scene.device.stream.get()));
    EXPECT_EQ(code({run, run, run, run, run}), StatusCode::kOk);
  }
  const int64_t num_free_pages = scene.device.kv_pool->num_free_pages();
  EXPECT_EQ(code({run, run}), StatusCode::kOk);
  EXPECT_EQ(scene.device.kv_pool->num_free_pages(), num_free_pages);
}

}  // namespace
}  // namespace intarsia::engine
