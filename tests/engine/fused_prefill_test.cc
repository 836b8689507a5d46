// The tests that define correctness of fusion (docs/decisions/0001-sparse-row-prefill.md), on tiny
// random models of every family.
#include "engine/fusion/fused_prefill.h"

#include <cmath>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/cancel.h"
#include "tests/engine/fusion_scene.h"
#include "tests/model/logit_difference.h"
#include "tests/model/reference_transformer.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

using model::LogitDifference;

constexpr FusionOptions kFull = {.selector = "full"};

TEST(FusedPrefillTest, FullThroughTheFusedPathEqualsPlainFullPrefill) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    EXPECT_LT(LogitDifference(tiny.scene.Run(kFull).logits, tiny.scene.FullPrefill()), 1e-4)
        << family;
  }
}

TEST(FusedPrefillTest, RatioOneEqualsFullForEverySelector) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    const std::vector<float> full = tiny.scene.FullPrefill();
    for (const std::string selector : {"prefix", "deviation", "stride", "attention"}) {
      const FusedContext context = tiny.scene.Run({.selector = selector, .ratio = 1.0});
      EXPECT_LT(LogitDifference(context.logits, full), 1e-4) << family << " " << selector;
      EXPECT_EQ(context.rows, tiny.scene.prompt().Candidates());
    }
  }
}

TEST(FusedPrefillTest, OneChunkEqualsFullWithoutAnyChunkRow) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    tiny.scene.chunks().resize(1);
    const FusedContext context = tiny.scene.Run({.selector = "none"});
    EXPECT_LT(LogitDifference(context.logits, tiny.scene.FullPrefill()), 1e-4) << family;
    EXPECT_EQ(context.usage.recomputed_tokens, 0);
    EXPECT_EQ(context.usage.fresh_tokens, 6);
  }
}

TEST(FusedPrefillTest, NoneEqualsTheReferenceOverJoinedCaches) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    const model::ReferenceTransformer reference(*tiny.tiny.file);
    const Prompt prompt = tiny.scene.prompt();
    auto joined = reference.EmptyCache(prompt.num_tokens());
    // Each part alone behind the header; K before RoPE needs no move.
    const std::vector<int32_t>& header = tiny.scene.header().tokens;
    for (const Segment& segment : prompt.segments()) {
      const bool is_header = segment.begin == 0;
      std::vector<int32_t> tokens = is_header ? std::vector<int32_t>() : header;
      const int64_t skipped = std::ssize(tokens);
      tokens.insert(tokens.end(), prompt.tokens().begin() + segment.begin,
                    prompt.tokens().begin() + segment.end);
      std::vector<int32_t> positions(tokens.size());
      std::iota(positions.begin(), positions.end(), 0);
      auto alone = reference.EmptyCache(std::ssize(tokens));
      reference.Forward(tokens, positions, &alone);
      for (size_t layer = 0; layer < joined.size(); ++layer) {
        for (int64_t i = 0; i < segment.size(); ++i) {
          joined[layer].k[static_cast<size_t>(segment.begin + i)] =
              alone[layer].k[static_cast<size_t>(skipped + i)];
          joined[layer].v[static_cast<size_t>(segment.begin + i)] =
              alone[layer].v[static_cast<size_t>(skipped + i)];
        }
      }
    }
    std::vector<int32_t> positions(tiny.scene.question().size());
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(prompt.question_begin()));
    const std::vector<double> wanted = reference.Forward(tiny.scene.question(), positions, &joined);
    EXPECT_LT(LogitDifference(tiny.scene.Run({.selector = "none"}).logits, wanted), 3e-4) << family;
  }
}

TEST(FusedPrefillTest, SelectedRowsEqualTheReferenceWithTheExactMask) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    const FusedContext context =
        tiny.scene.Run({.selector = "stride", .ratio = 0.3, .propagate = PropagationMode::kOff});
    const model::ReferenceTransformer reference(*tiny.tiny.file);
    const Prompt prompt = tiny.scene.prompt();
    auto joined = reference.EmptyCache(prompt.num_tokens());
    const auto kv_size = static_cast<size_t>(tiny.scene.transformer().config().kv_size());
    for (const Segment& segment : prompt.segments()) {
      for (size_t layer = 0; layer < joined.size(); ++layer) {
        const auto count = static_cast<size_t>(segment.size()) * kv_size;
        std::vector<float> payload(2 * count);
        ASSERT_TRUE(segment.cached
                        ->ReadLayer(static_cast<int32_t>(layer),
                                    {reinterpret_cast<uint8_t*>(payload.data()), 8 * count})
                        .ok());
        for (size_t i = 0; i < static_cast<size_t>(segment.size()); ++i) {
          const float* const k = payload.data() + i * kv_size;
          joined[layer].k[static_cast<size_t>(segment.begin) + i].assign(k, k + kv_size);
          joined[layer].v[static_cast<size_t>(segment.begin) + i].assign(k + count,
                                                                         k + count + kv_size);
        }
      }
    }
    std::vector<int32_t> positions = context.rows;
    for (const int32_t position : prompt.FreshPositions()) positions.push_back(position);
    std::vector<int32_t> tokens;
    for (const int32_t position : positions) {
      tokens.push_back(prompt.tokens()[static_cast<size_t>(position)]);
    }
    EXPECT_LT(LogitDifference(context.logits, reference.Forward(tokens, positions, &joined)), 3e-4)
        << family;
  }
}

TEST(FusedPrefillTest, AccountingAddsUpForEverySelectorAndMiss) {
  TinyFusionScene tiny("qwen2");
  for (const std::string_view selector : RowSelectorNames()) {
    for (const double ratio : {0.0, 0.1, 0.5, 1.0}) {
      for (size_t missed = 0; missed <= 5; ++missed) {
        const Prompt prompt =
            missed < 5 ? tiny.scene.prompt().WithoutCache(missed) : tiny.scene.prompt();
        const FusedContext context =
            tiny.scene.RunPrompt(prompt, {.selector = std::string(selector), .ratio = ratio});
        const FusionUsage& usage = context.usage;
        EXPECT_EQ(usage.prompt_tokens, prompt.num_tokens());
        EXPECT_EQ(usage.prompt_tokens,
                  usage.reused_tokens + usage.recomputed_tokens + usage.fresh_tokens);
        EXPECT_EQ(usage.recomputed_tokens, std::ssize(context.rows));
        for (const float logit : context.logits) ASSERT_TRUE(std::isfinite(logit));
      }
    }
  }
}

TEST(FusedPrefillTest, TwoRunsAreBitwiseEqual) {
  TinyFusionScene tiny("gemma3");
  for (const std::string_view selector : RowSelectorNames()) {
    const FusionOptions options = {.selector = std::string(selector), .ratio = 0.3};
    EXPECT_EQ(tiny.scene.Run(options).logits, tiny.scene.Run(options).logits) << selector;
  }
}

TEST(FusedPrefillTest, AShallowQuestionChoosesAsManyRowsAndLoadsTheRestWithThem) {
  TinyFusionScene tiny("qwen2");
  const int64_t num_candidates = std::ssize(tiny.scene.prompt().Candidates());
  for (const std::string& selector : {std::string("attention"), std::string("design")}) {
    for (const PropagationMode propagate : {PropagationMode::kOff, PropagationMode::kTwoSided}) {
      for (const double depth : {0.01, 0.5, 0.75, 1.0}) {
        const FusedContext context = tiny.scene.Run(
            {.selector = selector, .ratio = 0.3, .propagate = propagate, .question_depth = depth});
        EXPECT_EQ(std::ssize(context.rows),
                  std::llround(0.3 * static_cast<double>(num_candidates)));
        // Where all rows are computed it does not matter what chose them.
        const FusedContext all = tiny.scene.Run(
            {.selector = selector, .ratio = 1.0, .propagate = propagate, .question_depth = depth});
        EXPECT_EQ(all.logits, tiny.scene.Run({.selector = "full", .ratio = 1.0}).logits);
        for (const float logit : context.logits) ASSERT_TRUE(std::isfinite(logit));
      }
    }
  }
}

TEST(FusedPrefillTest, BadOptionsAreRefused) {
  TinyFusionScene tiny("llama");
  const Prompt prompt = tiny.scene.prompt();
  const auto code_of = [&](const FusionOptions& options) {
    return FusedPrefill(tiny.scene.transformer(), prompt, options, 1, nullptr).status().code();
  };
  EXPECT_EQ(code_of({.selector = "hkvd"}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.ratio = 1.5}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.ratio = -0.1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.ratio = std::nan("")}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.probe_share = 1.1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.probe_share = std::nan("")}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.question_depth = 0.0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.question_depth = 1.1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.question_depth = std::nan("")}), StatusCode::kInvalidArgument);
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(FusedPrefill(tiny.scene.transformer(), prompt, {}, 1, &cancel).status().code(),
            StatusCode::kCancelled);
}

}  // namespace
}  // namespace intarsia::engine
