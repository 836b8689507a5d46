// What a fused prefill leaves in the prompt's cache: which tokens move, and by how much.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_builder.h"
#include "engine/fusion/propagation.h"
#include "kernels/kv_layout.h"
#include "tests/engine/fusion_scene.h"
#include "tests/model/logit_difference.h"
#include "tests/model/tiny_models.h"

namespace intarsia::engine {
namespace {

using model::LogitDifference;

// K and V of all layers at a position, as placed.
std::vector<float> PlacedAt(const FusedContext& context, const model::ModelConfig& config,
                            int64_t position) {
  std::vector<float> values;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    std::vector<float> k(static_cast<size_t>(config.kv_size()));
    std::vector<float> v(k.size());
    INTARSIA_CHECK(kernels::LoadKv({.layer = context.cache->layer(layer),
                                    .begin = position,
                                    .num_tokens = 1,
                                    .k = k.data(),
                                    .v = v.data()})
                       .ok());
    values.insert(values.end(), k.begin(), k.end());
    values.insert(values.end(), v.begin(), v.end());
  }
  return values;
}

TEST(FusedPlacementTest, ALaterTokenNeverMovesAnEarlierOneButInTwoSidedPropagation) {
  for (const std::string_view family : model::TinyFamilies()) {
    for (const PropagationMode mode :
         {PropagationMode::kOff, PropagationMode::kCausal, PropagationMode::kTwoSided}) {
      TinyFusionScene tiny(family);
      const FusionOptions options = {.selector = "stride", .ratio = 0.4, .propagate = mode};
      const FusedContext before = tiny.scene.Run(options);
      // A token in the middle of the last chunk changes, with its cache; the rows stay.
      PromptPart& last = tiny.scene.chunks().back();
      last.tokens[10] = (last.tokens[10] + 1) % 160;
      auto cache =
          BuildKv(tiny.scene.transformer(), tiny.scene.header().cached, last.tokens, nullptr);
      ASSERT_TRUE(cache.ok());
      last.cached = cache->get();
      const FusedContext after = tiny.scene.Run(options);
      ASSERT_EQ(before.rows, after.rows);
      const int64_t changed = tiny.scene.prompt().segments().back().begin + 10;
      bool has_moved = false;
      for (int64_t position = 0; position < changed; ++position) {
        has_moved |= PlacedAt(before, tiny.scene.transformer().config(), position) !=
                     PlacedAt(after, tiny.scene.transformer().config(), position);
      }
      EXPECT_EQ(has_moved, mode == PropagationMode::kTwoSided) << family;
    }
  }
}

// V of a layer at a position, as placed.
std::vector<float> ValueAt(const FusedContext& context, const model::ModelConfig& config,
                           int32_t layer, int64_t position) {
  const std::vector<float> all = PlacedAt(context, config, position);
  const auto begin = all.begin() + (2 * layer + 1) * config.kv_size();
  return {begin, begin + config.kv_size()};
}

// V of a layer as the prompt's caches have it, [num_tokens, kv_size]; those of f32 alone.
std::vector<float> CachedValues(const Prompt& prompt, int32_t kv_size, int32_t layer) {
  std::vector<float> values(static_cast<size_t>(prompt.num_tokens() * kv_size));
  for (const Segment& segment : prompt.segments()) {
    std::vector<float> payload(static_cast<size_t>(2 * segment.size() * kv_size));
    INTARSIA_CHECK(segment.cached
                       ->ReadLayer(layer, {reinterpret_cast<uint8_t*>(payload.data()),
                                           payload.size() * sizeof(float)})
                       .ok());
    std::copy(payload.begin() + std::ssize(payload) / 2, payload.end(),
              values.begin() + segment.begin * kv_size);
  }
  return values;
}

TEST(FusedPlacementTest, ProbesThatAreKeptStayAsTheQuestionsPassLeftThem) {
  for (const std::string_view family : model::TinyFamilies()) {
    TinyFusionScene tiny(family);
    const Prompt prompt = tiny.scene.prompt();
    const auto num_candidates = static_cast<double>(prompt.Candidates().size());
    for (const std::string selector : {"attention", "design"}) {
      const FusedContext kept = tiny.scene.Run({.selector = selector,
                                                .ratio = 0.4,
                                                .probes = ProbePass::kWithQuestionOnly,
                                                .probe_share = 0.15});
      EXPECT_EQ(std::ssize(kept.rows), std::llround(0.4 * num_candidates));
      // That pass by itself: evenly spaced rows and the question.
      const FusedContext probes = tiny.scene.Run({.selector = "stride", .ratio = 0.15});
      EXPECT_TRUE(std::ranges::includes(kept.rows, probes.rows));
      for (const int32_t row : probes.rows) {
        EXPECT_EQ(PlacedAt(kept, tiny.scene.transformer().config(), row),
                  PlacedAt(probes, tiny.scene.transformer().config(), row))
            << family << " " << selector << " row " << row;
      }
    }
  }
}

// The values, which are not rotated, by the definition of propagation: both passes' rows show what
// the others are shifted by.
TEST(FusedPlacementTest, TokensThatAreNoRowsAreShiftedByTheRowsOfBothPasses) {
  for (const std::string_view family : model::TinyFamilies()) {
    for (const PropagationMode mode : {PropagationMode::kTwoSided, PropagationMode::kCausal}) {
      TinyFusionScene tiny(family);
      const model::ModelConfig& config = tiny.scene.transformer().config();
      const Prompt prompt = tiny.scene.prompt();
      const FusedContext context = tiny.scene.Run({.ratio = 0.4,
                                                   .propagate = mode,
                                                   .probes = ProbePass::kWithQuestionOnly,
                                                   .probe_share = 0.15});
      ThreadPool pool(1);
      const Propagation propagation = *Propagation::Create(prompt, context.rows, mode, &pool);
      const auto kv_size = static_cast<size_t>(config.kv_size());
      for (int32_t layer = 1; layer < config.num_layers; ++layer) {
        const std::vector<float> cached = CachedValues(prompt, config.kv_size(), layer);
        const auto shift_at = [&](int32_t row) {
          std::vector<float> shift = ValueAt(context, config, layer, row);
          for (size_t i = 0; i < kv_size; ++i) shift[i] -= cached[row * kv_size + i];
          return shift;
        };
        std::vector<double> sum(kv_size);
        const auto add_to_sum = [&](const ChunkPropagation& chunk) {
          for (size_t s = 0; s < chunk.rows.size(); ++s) {
            const std::vector<float> shift = shift_at(chunk.rows[s]);
            for (size_t i = 0; i < kv_size; ++i) sum[i] += chunk.value.u[s] * shift[i];
          }
        };
        if (mode == PropagationMode::kTwoSided) {
          for (const ChunkPropagation& chunk : propagation.chunks()) add_to_sum(chunk);
        }
        for (const ChunkPropagation& chunk : propagation.chunks()) {
          const Segment& segment = prompt.segments()[chunk.segment];
          for (int64_t t = 0; t < segment.size(); ++t) {
            const int64_t position = segment.begin + t;
            if (std::ranges::binary_search(chunk.rows, position)) continue;
            const size_t num_rows = chunk.rows.size();
            const float* const weights =
                chunk.value.weights.data() + static_cast<size_t>(t) * (num_rows + 1);
            std::vector<float> expected(kv_size);
            for (size_t i = 0; i < kv_size; ++i) {
              expected[i] = cached[static_cast<size_t>(position) * kv_size + i] +
                            weights[num_rows] * static_cast<float>(sum[i]);
            }
            for (size_t s = 0; s < num_rows; ++s) {
              const std::vector<float> shift = shift_at(chunk.rows[s]);
              for (size_t i = 0; i < kv_size; ++i) expected[i] += weights[s] * shift[i];
            }
            EXPECT_LT(LogitDifference(ValueAt(context, config, layer, position), expected), 1e-4)
                << family << " layer " << layer << " position " << position;
          }
          if (mode == PropagationMode::kCausal) add_to_sum(chunk);
        }
      }
    }
  }
}

}  // namespace
}  // namespace intarsia::engine
