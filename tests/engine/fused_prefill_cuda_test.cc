// Fused prefill on a device against the one on the CPU, with the tests that define correctness of
// fusion, on tiny random models and, where it is at hand, on SmolLM2.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fusion/device_fused_prefill.h"
#include "kernels/device.h"
#include "kernels/kv_codec.h"
#include "tests/engine/fusion_scene.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

using kernels::KvPayloadType;
using model::Take;

constexpr const char* kSmolLm2 = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr FusionOptions kFull = {.selector = "full"};
constexpr int64_t kNumNewTokens = 8;

// The device works in bf16, the CPU here in f32.
constexpr kernels::Tolerance kTolerance = {.absolute = 1e9, .relative = 0.0, .nmse = 5e-3};

// A fusion scene with its model on a device too.
class DeviceScene {
 public:
  DeviceScene(const model::GgufFile& file, int64_t chunk_tokens)
      : scene(file, kernels::ComputeType::kF32, chunk_tokens),
        cuda_(Take(model::CudaTransformer::Load(file, /*device=*/0, &threads_))),
        stream_(Take(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal))),
        pages_(Take(model::DeviceKvPool::Create(
            cuda_->config(), {.budget_bytes = int64_t{64} << 20, .num_requests_max = 4},
            stream_.get()))),
        fusion_(Take(DeviceFusion::Create(*cuda_, pages_.get(), &threads_,
                                          {.staging_bytes = int64_t{8} << 20}))) {}

  Result<DeviceFusedContext> Try(const Prompt& prompt, const DeviceFusionRequest& request) {
    return fusion_->Prefill(prompt, request);
  }
  DeviceFusedContext Run(const Prompt& prompt, const FusionOptions& options) {
    return Take(Try(prompt, {.fusion = options, .num_new_tokens_max = kNumNewTokens}));
  }
  DeviceFusedContext Run(const FusionOptions& options) { return Run(scene.prompt(), options); }
  model::DeviceKvPool* pages() { return pages_.get(); }

  FusionScene scene;

 private:
  ThreadPool threads_{2};
  std::unique_ptr<model::CudaTransformer> cuda_;
  kernels::DeviceStream stream_;
  std::unique_ptr<model::DeviceKvPool> pages_;
  std::unique_ptr<DeviceFusion> fusion_;
};

struct TinyDeviceScene {
  explicit TinyDeviceScene(std::string_view family)
      : tiny({.family = family, .hidden = 128, .head_dim = 64, .ffn = 192, .window = 40}),
        device(*tiny.file, 50) {}
  model::TinyModel tiny;
  DeviceScene device;
};

class FusedPrefillCudaTest : public kernels::DeviceTest,
                             public ::testing::WithParamInterface<std::string_view> {};

TEST_P(FusedPrefillCudaTest, FullEqualsAPlainFullPrefill) {
  TinyDeviceScene tiny(GetParam());
  EXPECT_TRUE(kernels::ArraysAgree(tiny.device.Run(kFull).logits, tiny.device.scene.FullPrefill(),
                                   kTolerance));
}

TEST_P(FusedPrefillCudaTest, RatioOneEqualsFullForEverySelector) {
  TinyDeviceScene tiny(GetParam());
  const DeviceFusedContext full = tiny.device.Run(kFull);
  for (const std::string selector : {"prefix", "deviation", "stride", "attention", "design"}) {
    const DeviceFusedContext context = tiny.device.Run({.selector = selector, .ratio = 1.0});
    EXPECT_EQ(context.logits, full.logits) << selector;
    EXPECT_EQ(context.rows, tiny.device.scene.prompt().Candidates()) << selector;
  }
}

TEST_P(FusedPrefillCudaTest, OneChunkEqualsFullWithoutAnyChunkRow) {
  TinyDeviceScene tiny(GetParam());
  tiny.device.scene.chunks().resize(1);
  const DeviceFusedContext context = tiny.device.Run({.selector = "none"});
  EXPECT_TRUE(kernels::ArraysAgree(context.logits, tiny.device.scene.FullPrefill(), kTolerance));
  EXPECT_EQ(context.usage.recomputed_tokens, 0);
  EXPECT_EQ(context.usage.fresh_tokens, 6);
}

TEST_P(FusedPrefillCudaTest, RowsKnownBeforehandGiveTheLogitsOfTheCpu) {
  TinyDeviceScene tiny(GetParam());
  for (const std::string selector : {"none", "prefix", "stride"}) {
    for (const PropagationMode mode :
         {PropagationMode::kOff, PropagationMode::kTwoSided, PropagationMode::kCausal}) {
      SCOPED_TRACE(selector + " mode " + std::to_string(static_cast<int>(mode)));
      const FusionOptions options = {.selector = selector, .ratio = 0.3, .propagate = mode};
      const FusedContext expected = tiny.device.scene.Run(options);
      const DeviceFusedContext context = tiny.device.Run(options);
      EXPECT_EQ(context.rows, expected.rows);
      EXPECT_TRUE(kernels::ArraysAgree(context.logits, expected.logits, kTolerance));
    }
  }
}

// Scores in bf16 may swap rows of nearly equal rank.
int64_t NumShared(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return std::ranges::count_if(a, [&](int32_t row) { return std::ranges::binary_search(b, row); });
}

void ExpectTheRowsOfTheCpu(TinyDeviceScene* tiny, const FusionOptions& options) {
  const FusedContext expected = tiny->device.scene.Run(options);
  const DeviceFusedContext context = tiny->device.Run(options);
  ASSERT_EQ(context.rows.size(), expected.rows.size());
  EXPECT_TRUE(std::ranges::is_sorted(context.rows));
  const auto num_rows = static_cast<double>(expected.rows.size());
  EXPECT_GT(static_cast<double>(NumShared(context.rows, expected.rows)), 0.9 * num_rows);
  if (context.rows == expected.rows) {
    EXPECT_TRUE(kernels::ArraysAgree(context.logits, expected.logits, kTolerance));
  }
}

TEST_P(FusedPrefillCudaTest, AttentionChoosesTheRowsOfTheCpu) {
  TinyDeviceScene tiny(GetParam());
  for (const ProbePass probes :
       {ProbePass::kWithRows, ProbePass::kWithQuestion, ProbePass::kWithQuestionOnly}) {
    const FusionOptions options = {.ratio = 0.3, .probes = probes};
    ExpectTheRowsOfTheCpu(&tiny, options);
  }
}

TEST_P(FusedPrefillCudaTest, DeviationChoosesTheRowsOfTheCpu) {
  TinyDeviceScene tiny(GetParam());
  for (const PropagationMode mode : {PropagationMode::kOff, PropagationMode::kTwoSided}) {
    const FusionOptions options = {.selector = "deviation", .ratio = 0.3, .propagate = mode};
    ExpectTheRowsOfTheCpu(&tiny, options);
  }
}

TEST_P(FusedPrefillCudaTest, TwoRunsAreBitwiseEqual) {
  TinyDeviceScene tiny(GetParam());
  for (const std::string selector : {"none", "stride", "attention", "full"}) {
    const FusionOptions options = {.selector = selector, .ratio = 0.3};
    const DeviceFusedContext first = tiny.device.Run(options);
    const DeviceFusedContext second = tiny.device.Run(options);
    EXPECT_EQ(first.rows, second.rows) << selector;
    EXPECT_EQ(first.logits, second.logits) << selector;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FusedPrefillCudaTest,
                         ::testing::ValuesIn(model::TinyFamilies()));

class FusedPrefillCudaLlamaTest : public kernels::DeviceTest {};

TEST_F(FusedPrefillCudaLlamaTest, AccountingAddsUpForEverySelectorAndMiss) {
  TinyDeviceScene tiny("llama");
  for (const std::string selector :
       {"none", "prefix", "deviation", "stride", "attention", "design", "full"}) {
    for (const double ratio : {0.0, 0.1, 1.0}) {
      for (size_t missed = 0; missed <= 5; ++missed) {
        const Prompt whole = tiny.device.scene.prompt();
        const Prompt prompt = missed < 5 ? whole.WithoutCache(missed) : whole;
        const DeviceFusedContext context =
            tiny.device.Run(prompt, {.selector = selector, .ratio = ratio});
        const FusionUsage& usage = context.usage;
        EXPECT_EQ(usage.prompt_tokens,
                  usage.reused_tokens + usage.recomputed_tokens + usage.fresh_tokens);
        EXPECT_EQ(usage.recomputed_tokens, std::ssize(context.rows));
        EXPECT_GE(context.kv->capacity(), prompt.num_tokens() + kNumNewTokens);
        for (const float logit : context.logits) ASSERT_TRUE(std::isfinite(logit));
      }
    }
  }
}

TEST_F(FusedPrefillCudaLlamaTest, FewerLayersOfTheQuestionChooseTooAndLoadTheRestUnderTheRows) {
  TinyDeviceScene tiny("llama");
  const Prompt prompt = tiny.device.scene.prompt();
  for (const double depth : {0.01, 0.5, 0.75, 1.0}) {
    const DeviceFusedContext context =
        Take(tiny.device.Try(prompt, {.fusion = {.ratio = 0.3, .question_depth = depth}}));
    EXPECT_EQ(std::ssize(context.rows),
              std::llround(0.3 * static_cast<double>(prompt.Candidates().size())));
    for (const float logit : context.logits) ASSERT_TRUE(std::isfinite(logit));
  }
}

// A cache whose payloads lie where a copy can take them from, or where they are used.
class ResidentKv : public KvSource {
 public:
  enum class Place { kPinned, kDevice };
  ResidentKv(const MemoryKv& source, Place place) : source_(source), place_(place) {
    for (const std::vector<uint8_t>& layer : source.layers()) {
      const auto size = static_cast<int64_t>(layer.size());
      if (place == Place::kPinned) {
        pinned_.push_back(Take(kernels::PinnedBuffer::Allocate(size)));
        std::ranges::copy(layer, pinned_.back().as<uint8_t>());
      } else {
        device_.push_back(Take(kernels::DeviceBuffer::Allocate(size, nullptr)));
        EXPECT_TRUE(kernels::CopyToDevice(device_.back().data(), layer.data(), size, nullptr).ok());
      }
    }
    EXPECT_TRUE(kernels::WaitFor(nullptr).ok());
  }

  KvPayloadType type() const override { return source_.type(); }
  int64_t num_tokens() const override { return source_.num_tokens(); }
  Status ReadLayer(int32_t, std::span<uint8_t>) const override {
    return Status(StatusCode::kInternal, "what is resident must not be read");
  }
  const uint8_t* PinnedLayer(int32_t layer) const override {
    return place_ == Place::kPinned ? pinned_[static_cast<size_t>(layer)].as<uint8_t>() : nullptr;
  }
  const uint8_t* DeviceLayer(int32_t layer) const override {
    return place_ == Place::kDevice ? device_[static_cast<size_t>(layer)].as<uint8_t>() : nullptr;
  }

 private:
  const MemoryKv& source_;
  const Place place_;
  std::vector<kernels::PinnedBuffer> pinned_;
  std::vector<kernels::DeviceBuffer> device_;
};

TEST_F(FusedPrefillCudaLlamaTest, ResidentCachesGiveTheSameBitsAsReadOnes) {
  TinyDeviceScene tiny("llama");
  for (const std::string selector : {"stride", "attention"}) {
    const FusionOptions options = {.selector = selector, .ratio = 0.3};
    const DeviceFusedContext read = tiny.device.Run(options);
    for (const auto place : {ResidentKv::Place::kPinned, ResidentKv::Place::kDevice}) {
      std::vector<std::unique_ptr<ResidentKv>> resident;
      std::vector<PromptPart> parts = tiny.device.scene.chunks();
      for (PromptPart& part : parts) {
        const auto* const source = dynamic_cast<const MemoryKv*>(part.cached);
        ASSERT_NE(source, nullptr);
        resident.push_back(std::make_unique<ResidentKv>(*source, place));
        part.cached = resident.back().get();
      }
      const Prompt prompt =
          Take(Prompt::Create(tiny.device.scene.header(), parts, tiny.device.scene.question()));
      EXPECT_EQ(tiny.device.Run(prompt, options).logits, read.logits) << selector;
    }
  }
}

// The same cache in another type of payload.
std::unique_ptr<MemoryKv> Encode(const KvSource& source, KvPayloadType type, int32_t num_layers,
                                 int64_t width) {
  const int64_t size = source.num_tokens() * width;
  std::vector<std::vector<uint8_t>> layers;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    std::vector<float> numbers(static_cast<size_t>(2 * size));
    EXPECT_EQ(source.type(), KvPayloadType::kF32);
    EXPECT_TRUE(source
                    .ReadLayer(layer, {reinterpret_cast<uint8_t*>(numbers.data()),
                                       numbers.size() * sizeof(float)})
                    .ok());
    std::vector<uint8_t>& payload = layers.emplace_back(
        static_cast<size_t>(kernels::KvPayloadBytes(type, source.num_tokens(), width)));
    EXPECT_TRUE(kernels::EncodeKv({.type = type,
                                   .k = numbers.data(),
                                   .v = numbers.data() + size,
                                   .num_tokens = source.num_tokens(),
                                   .width = width,
                                   .payload = payload.data(),
                                   .payload_bytes = static_cast<int64_t>(payload.size())})
                    .ok());
  }
  return std::make_unique<MemoryKv>(type, source.num_tokens(), std::move(layers));
}

TEST_F(FusedPrefillCudaLlamaTest, QuantisedCachesOfSeveralTypesGiveTheLogitsOfTheCpu) {
  TinyDeviceScene tiny("llama");
  const model::ModelConfig& config = tiny.device.scene.transformer().config();
  std::vector<std::unique_ptr<MemoryKv>> caches;
  std::vector<PromptPart> parts = tiny.device.scene.chunks();
  const KvPayloadType types[] = {KvPayloadType::kBf16, KvPayloadType::kInt8, KvPayloadType::kInt4,
                                 KvPayloadType::kF32};
  for (size_t i = 0; i < parts.size(); ++i) {
    caches.push_back(Encode(*parts[i].cached, types[i], config.num_layers, config.kv_size()));
    parts[i].cached = caches.back().get();
  }
  const Prompt prompt =
      Take(Prompt::Create(tiny.device.scene.header(), parts, tiny.device.scene.question()));
  const FusionOptions options = {.selector = "stride", .ratio = 0.3};
  EXPECT_TRUE(kernels::ArraysAgree(tiny.device.Run(prompt, options).logits,
                                   tiny.device.scene.RunPrompt(prompt, options).logits,
                                   kTolerance));
}

TEST_F(FusedPrefillCudaLlamaTest, ACacheThatIsLostOnTheWayIsComputedInstead) {
  TinyDeviceScene tiny("llama");
  const DeviceFusedContext wanted =
      tiny.device.Run(tiny.device.scene.prompt().WithoutCache(3), FusionOptions());
  for (int32_t layer = 0; layer < 4; ++layer) {
    const DamagedKv damaged(tiny.device.scene.chunks()[2].cached, layer);
    std::vector<PromptPart> parts = tiny.device.scene.chunks();
    parts[2].cached = &damaged;
    const Prompt prompt =
        Take(Prompt::Create(tiny.device.scene.header(), parts, tiny.device.scene.question()));
    const DeviceFusedContext context = tiny.device.Run(prompt, FusionOptions());
    EXPECT_EQ(context.lost_segments, std::vector<size_t>{3});
    EXPECT_EQ(context.logits, wanted.logits);
  }
}

TEST_F(FusedPrefillCudaLlamaTest, ErrorsLeaveEverythingUsable) {
  TinyDeviceScene tiny("llama");
  const Prompt prompt = tiny.device.scene.prompt();
  const std::vector<float> before = tiny.device.Run(FusionOptions()).logits;
  const int64_t num_free_pages = tiny.device.pages()->num_free_pages();
  const auto code_of = [&](const DeviceFusionRequest& request) {
    return tiny.device.Try(prompt, request).status().code();
  };
  EXPECT_EQ(code_of({.fusion = {.selector = "hkvd"}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.fusion = {.ratio = 1.5}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.fusion = {.ratio = std::nan("")}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.fusion = {.question_depth = 0.0}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.fusion = {.question_depth = 1.1}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.num_new_tokens_max = int64_t{1} << 30}), StatusCode::kResourceExhausted);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(code_of({.cancel = &cancel}), StatusCode::kCancelled);
  EXPECT_EQ(tiny.device.pages()->num_free_pages(), num_free_pages);
  EXPECT_EQ(tiny.device.Run(FusionOptions()).logits, before);
}

TEST_F(FusedPrefillCudaLlamaTest, RealModelBeginsItsAnswerAsOnTheCpu) {
  if (!std::filesystem::exists(kSmolLm2)) GTEST_SKIP() << "no " << kSmolLm2;
  const auto file = model::GgufFile::Open(kSmolLm2, FileSystem::Local());
  ASSERT_TRUE(file.ok());
  DeviceScene device(**file, 60);
  for (const FusionOptions& options :
       {kFull, FusionOptions{.selector = "stride", .ratio = 0.15},
        FusionOptions{.selector = "stride", .ratio = 0.3, .propagate = PropagationMode::kCausal}}) {
    const std::vector<float> wanted = device.scene.Run(options).logits;
    const std::vector<float> logits = device.Run(options).logits;
    EXPECT_TRUE(kernels::ArraysAgree(logits, wanted, kTolerance));
    const auto best = static_cast<size_t>(std::ranges::max_element(wanted) - wanted.begin());
    const auto got = static_cast<size_t>(std::ranges::max_element(logits) - logits.begin());
    // The same token, or one that bf16 cannot tell from it.
    EXPECT_LT(wanted[best] - wanted[got], 0.25f);
  }
}

}  // namespace
}  // namespace intarsia::engine
