// FusionScene: a model with a header, chunks, a question and the caches of them, for the tests of
// fused prefills.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "model/transformer.h"
#include "tests/model/reference_transformer.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {

class FusionScene {
 public:
  FusionScene(const model::GgufFile& file, kernels::ComputeType compute, int64_t chunk_tokens)
      : pool_(2) {
    auto loaded = model::Transformer::Load(file, {.compute = compute}, &pool_);
    INTARSIA_CHECK(loaded.ok());
    transformer_ = *std::move(loaded);
    const int32_t vocab = transformer_->config().vocab_size;
    header_.tokens = model::SomeTokens(5, vocab, 1);
    question_ = model::SomeTokens(6, vocab, 2);
    auto header = BuildKv(*transformer_, nullptr, header_.tokens, nullptr);
    INTARSIA_CHECK(header.ok());
    caches_.push_back(*std::move(header));
    header_.cached = caches_[0].get();
    for (uint32_t i = 0; i < 4; ++i) {
      PromptPart& part = chunks_.emplace_back();
      part.tokens = model::SomeTokens(chunk_tokens + 3 * i, vocab, 100 + i);
      auto cache = BuildKv(*transformer_, header_.cached, part.tokens, nullptr);
      INTARSIA_CHECK(cache.ok());
      caches_.push_back(*std::move(cache));
      part.cached = caches_.back().get();
    }
  }

  const model::Transformer& transformer() const { return *transformer_; }
  std::vector<PromptPart>& chunks() { return chunks_; }
  std::vector<int32_t>& question() { return question_; }
  PromptPart& header() { return header_; }
  Prompt prompt() const { return *Prompt::Create(header_, chunks_, question_); }

  FusedContext Run(const FusionOptions& options) const { return RunPrompt(prompt(), options); }
  FusedContext RunPrompt(const Prompt& prompt, const FusionOptions& options) const {
    auto context = FusedPrefill(*transformer_, prompt, options, 8, nullptr);
    INTARSIA_CHECK(context.ok());
    return *std::move(context);
  }

  // Plain full prefill: all rows, no cache, not through FusedPrefill.
  std::vector<float> FullPrefill() const {
    const Prompt all = prompt();
    std::vector<int32_t> positions(static_cast<size_t>(all.num_tokens()));
    std::iota(positions.begin(), positions.end(), 0);
    auto cache =
        model::KvCache::Create(transformer_->config(), transformer_->kv_type(), all.num_tokens());
    auto logits =
        transformer_->Forward({.tokens = all.tokens(), .positions = positions}, cache->get());
    INTARSIA_CHECK(logits.ok());
    return *std::move(logits);
  }

 private:
  ThreadPool pool_;
  std::unique_ptr<model::Transformer> transformer_;
  PromptPart header_;
  std::vector<PromptPart> chunks_;
  std::vector<int32_t> question_;
  std::vector<std::unique_ptr<MemoryKv>> caches_;
};

// The same with a random model of one family.
struct TinyFusionScene {
  model::TinyModel tiny;
  FusionScene scene;
  explicit TinyFusionScene(std::string_view family)
      : tiny({.family = family}), scene(*tiny.file, kernels::ComputeType::kF32, 17) {}
};

// A cache that turns out to be damaged at one layer.
class DamagedKv : public KvSource {
 public:
  DamagedKv(const KvSource* whole, int32_t layer) : whole_(*whole), layer_(layer) {}
  KvPayloadType type() const override { return whole_.type(); }
  int64_t num_tokens() const override { return whole_.num_tokens(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    if (layer == layer_) return Status(StatusCode::kNotFound, "checksum mismatch");
    return whole_.ReadLayer(layer, target);
  }

 private:
  const KvSource& whole_;
  const int32_t layer_;
};

}  // namespace intarsia::engine
