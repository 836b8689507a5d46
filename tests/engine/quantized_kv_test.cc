// Fusion over caches that are quantised at rest.
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "tests/model/logit_difference.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

// A tiny model with a header and three chunks whose caches have a type.
class QuantizedScene {
 public:
  explicit QuantizedScene(std::string_view family) : tiny_({.family = family}), pool_(2) {
    auto loaded =
        model::Transformer::Load(*tiny_.file, {.compute = kernels::ComputeType::kF32}, &pool_);
    INTARSIA_CHECK(loaded.ok());
    transformer_ = *std::move(loaded);
    const int32_t vocab = transformer_->config().vocab_size;
    header_.tokens = model::SomeTokens(5, vocab, 1);
    header_kv_ = *BuildKv(*transformer_, nullptr, header_.tokens, nullptr);
    header_.cached = header_kv_.get();
    question_ = model::SomeTokens(6, vocab, 2);
  }

  std::vector<std::unique_ptr<MemoryKv>> Build(KvPayloadType type) const {
    std::vector<std::unique_ptr<MemoryKv>> caches;
    for (uint32_t i = 0; i < 3; ++i) {
      caches.push_back(*BuildKv(*transformer_, header_.cached, ChunkTokens(i), type, nullptr));
    }
    return caches;
  }

  FusedContext Run(const std::vector<const KvSource*>& caches, const FusionOptions& options) const {
    std::vector<PromptPart> chunks;
    for (uint32_t i = 0; i < 3; ++i) {
      chunks.push_back({.tokens = ChunkTokens(i), .cached = caches[i]});
    }
    const Prompt prompt = *Prompt::Create(header_, chunks, question_);
    auto context = FusedPrefill(*transformer_, prompt, options, 8, nullptr);
    INTARSIA_CHECK(context.ok());
    return *std::move(context);
  }

 private:
  std::vector<int32_t> ChunkTokens(uint32_t i) const {
    return model::SomeTokens(60 + 7 * i, transformer_->config().vocab_size, 100 + i);
  }

  model::TinyModel tiny_;
  ThreadPool pool_;
  std::unique_ptr<model::Transformer> transformer_;
  PromptPart header_;
  std::unique_ptr<MemoryKv> header_kv_;
  std::vector<int32_t> question_;
};

std::vector<const KvSource*> Pointers(const std::vector<std::unique_ptr<MemoryKv>>& caches) {
  std::vector<const KvSource*> pointers;
  for (const auto& cache : caches) pointers.push_back(cache.get());
  return pointers;
}

TEST(QuantizedKvTest, AnAnswerStaysNearTheOneOverExactCaches) {
  for (const std::string_view family : model::TinyFamilies()) {
    const QuantizedScene scene(family);
    const auto exact = scene.Build(KvPayloadType::kF32);
    // Selectors that pick the same rows whatever the numbers are.
    for (const char* selector : {"none", "stride"}) {
      const FusionOptions options = {.selector = selector, .ratio = 0.2};
      const auto wanted = scene.Run(Pointers(exact), options).logits;
      for (const auto& [type, error_max] :
           {std::pair(KvPayloadType::kBf16, 0.01), std::pair(KvPayloadType::kInt8, 0.02),
            std::pair(KvPayloadType::kInt4, 0.3)}) {
        const auto caches = scene.Build(type);
        const FusedContext context = scene.Run(Pointers(caches), options);
        EXPECT_TRUE(context.lost_segments.empty());
        EXPECT_LT(model::LogitDifference(context.logits, wanted), error_max)
            << family << " " << selector << " " << static_cast<int>(type);
      }
    }
  }
}

// A cache whose bytes somebody changed together with their checksum.
class ForgedKv : public KvSource {
 public:
  ForgedKv(const KvSource* whole, uint16_t half) : whole_(*whole), half_(half) {}
  KvPayloadType type() const override { return whole_.type(); }
  int64_t num_tokens() const override { return whole_.num_tokens(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    INTARSIA_RETURN_IF_ERROR(whole_.ReadLayer(layer, target));
    if (layer == 1) std::memcpy(target.data(), &half_, sizeof(half_));
    return Status::Ok();
  }

 private:
  const KvSource& whole_;
  const uint16_t half_;
};

TEST(QuantizedKvTest, AParameterThatIsNotANumberIsAMiss) {
  const QuantizedScene scene("qwen2");
  for (const KvPayloadType type : {KvPayloadType::kInt8, KvPayloadType::kInt4}) {
    const auto caches = scene.Build(type);
    for (const uint16_t half : {uint16_t{0x7e00}, uint16_t{0xfc00}}) {
      const ForgedKv forged(caches[1].get(), half);
      const FusedContext context = scene.Run({caches[0].get(), &forged, caches[2].get()}, {});
      EXPECT_EQ(context.lost_segments, std::vector<size_t>{2});
      EXPECT_EQ(context.logits, scene.Run({caches[0].get(), nullptr, caches[2].get()}, {}).logits);
    }
  }
}

}  // namespace
}  // namespace intarsia::engine
