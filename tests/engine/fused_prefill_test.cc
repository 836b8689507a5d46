// The tests that define correctness of fusion (docs/decisions/0001-sparse-row-prefill.md), on tiny
// random models of every family and, where it is at hand, on SmolLM2.
#include "engine/fusion/fused_prefill.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/async_reader.h"
#include "base/check.h"
#include "base/file.h"
#include "engine/fusion/kv_builder.h"
#include "model/tokenizer.h"
#include "tests/engine/fusion_scene.h"
#include "tests/model/logit_difference.h"
#include "tests/model/reference_transformer.h"
#include "tests/model/tiny_models.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

using model::LogitDifference;

constexpr const char* kSmolLm2 = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

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

TEST(FusedPrefillTest, ALaterTokenNeverMovesAnEarlierOneButInTwoSidedPropagation) {
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

TEST(FusedPrefillTest, ProbesThatAreKeptStayAsTheQuestionsPassLeftThem) {
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
TEST(FusedPrefillTest, TokensThatAreNoRowsAreShiftedByTheRowsOfBothPasses) {
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

constexpr std::string_view kPassages[] = {
    "## Harbour\nThe harbour of Ostra was built in 1843 by the engineer Maria Lind. She chose the "
    "eastern bay, because its water is deep and the ice leaves it first in spring.\n\n",
    "## Lighthouse\nThe lighthouse stands on the rock of Halm. Its lamp was lit by oil until 1911, "
    "when Lind's grandson brought electric light to the town and to the harbour.\n\n",
    "## Railway\nThe railway reached Ostra in 1872. Fish from the harbour could now be sold in the "
    "capital on the day it was caught, and the town grew to four thousand people.\n\n",
    "## Fire\nA fire destroyed the old market in 1899. The engineer's daughter, Karin Lind, "
    "planned "
    "the new one beside the railway, with a roof of glass and iron.\n\n"};
constexpr std::string_view kQuestion = "Question: Who built the harbour of Ostra?\nAnswer:";

// KL divergence of the first answer token from that of full prefill.
double FirstTokenKl(const std::vector<float>& full, const std::vector<float>& other) {
  const auto log_sum = [](const std::vector<float>& logits) {
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    return std::log(sum);
  };
  const double full_sum = log_sum(full);
  const double other_sum = log_sum(other);
  double kl = 0.0;
  for (size_t i = 0; i < full.size(); ++i) {
    const double p = full[i] - full_sum;
    kl += std::exp(p) * (p - (other[i] - other_sum));
  }
  return kl;
}

TEST(FusedPrefillTest, PropagationBringsAnAnswerOverRealTextNearerToFullPrefill) {
  if (!std::filesystem::exists(kSmolLm2)) GTEST_SKIP() << "no " << kSmolLm2;
  const auto file = model::GgufFile::Open(kSmolLm2, FileSystem::Local());
  ASSERT_TRUE(file.ok());
  const auto tokenizer = model::LoadTokenizer(**file);
  ASSERT_TRUE(tokenizer.ok());
  const auto encode = [&](std::string_view text) {
    return *(*tokenizer)->Encode(text, model::SpecialTokens::kAsText);
  };
  FusionScene scene(**file, kernels::ComputeType::kF32, 1);
  std::vector<std::unique_ptr<MemoryKv>> caches;
  for (size_t i = 0; i < 4; ++i) {
    PromptPart& part = scene.chunks()[i];
    part.tokens = encode(kPassages[i]);
    auto cache = BuildKv(scene.transformer(), scene.header().cached, part.tokens, nullptr);
    ASSERT_TRUE(cache.ok());
    caches.push_back(*std::move(cache));
    part.cached = caches.back().get();
  }
  scene.question() = encode(kQuestion);
  const std::vector<float> full = scene.FullPrefill();
  const auto kl_of = [&](const std::string& selector, PropagationMode mode) {
    return FirstTokenKl(full,
                        scene.Run({.selector = selector, .ratio = 0.3, .propagate = mode}).logits);
  };
  EXPECT_LT(FirstTokenKl(full, scene.Run(kFull).logits), 1e-6);
  const double naive = FirstTokenKl(full, scene.Run({.selector = "none"}).logits);
  for (const std::string selector : {"stride", "attention"}) {
    const double propagated = kl_of(selector, PropagationMode::kTwoSided);
    EXPECT_LT(propagated, naive) << selector;
    // Of rows that a question has chosen, so little text says nothing: most of what its answer
    // needs is among them. Many long prompts do (BENCHMARKS.md).
    if (selector == "stride") {
      EXPECT_LT(propagated, kl_of(selector, PropagationMode::kOff));
    }
  }
}

TEST(FusedPrefillTest, RealModelAgreesWithItsFullPrefill) {
  if (!std::filesystem::exists(kSmolLm2)) GTEST_SKIP() << "no " << kSmolLm2;
  const auto file = model::GgufFile::Open(kSmolLm2, FileSystem::Local());
  ASSERT_TRUE(file.ok());
  FusionScene scene(**file, kernels::ComputeType::kF32, 60);
  const std::vector<float> full = scene.FullPrefill();
  EXPECT_LT(LogitDifference(scene.Run(kFull).logits, full), 1e-4);
  for (const std::string selector : {"prefix", "deviation", "stride", "attention"}) {
    EXPECT_LT(LogitDifference(scene.Run({.selector = selector, .ratio = 1.0}).logits, full), 1e-4);
  }
  scene.chunks().resize(1);
  EXPECT_LT(LogitDifference(scene.Run({.selector = "none"}).logits, scene.FullPrefill()), 1e-4);
}

TEST(FusedPrefillTest, ACacheThatIsLostOnTheWayIsComputedInstead) {
  TinyFusionScene tiny("llama");
  for (int32_t layer = 0; layer < 4; ++layer) {
    const DamagedKv damaged(tiny.scene.chunks()[2].cached, layer);
    std::vector<PromptPart> parts = tiny.scene.chunks();
    parts[2].cached = &damaged;
    const Prompt prompt = *Prompt::Create(tiny.scene.header(), parts, tiny.scene.question());
    const FusedContext context = tiny.scene.RunPrompt(prompt, {});
    EXPECT_EQ(context.lost_segments, std::vector<size_t>{3});
    const FusedContext wanted = tiny.scene.RunPrompt(tiny.scene.prompt().WithoutCache(3), {});
    EXPECT_EQ(context.logits, wanted.logits);
    EXPECT_EQ(context.usage.fresh_tokens, wanted.usage.fresh_tokens);
  }
}

// A cache in a file, whose layers come beside the computation, but for one, where the system can do
// that; what a read brings can be spoilt.
class FileKv : public KvSource {
 public:
  FileKv(const MemoryKv& whole, const std::string& path, int32_t spoilt)
      : whole_(whole), room_bytes_(RoomOf(whole)), spoilt_(spoilt) {
    std::string bytes;
    for (const std::vector<uint8_t>& layer : whole.layers()) {
      bytes.append(layer.begin(), layer.end());
      bytes.resize((bytes.size() + kPage - 1) / kPage * kPage);
    }
    INTARSIA_CHECK(FileSystem::Local()->WriteAtomically(path, bytes).ok());
    file_ = FileSystem::Local()->OpenDirect(path);
  }
  KvPayloadType type() const override { return whole_.type(); }
  int64_t num_tokens() const override { return whole_.num_tokens(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    return whole_.ReadLayer(layer, target);
  }
  bool StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag) const override {
    if (file_ == nullptr || layer == 1) return false;
    INTARSIA_CHECK(std::ssize(target) == room_bytes_);
    reader->Start({.file = file_.get(),
                   .offset = layer * room_bytes_,
                   .num_bytes = room_bytes_,
                   .target = target.data(),
                   .tag = tag});
    return true;
  }
  Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const override {
    if (layer == spoilt_) return Status(StatusCode::kNotFound, "checksum mismatch");
    INTARSIA_CHECK(num_read == room_bytes_);
    std::vector<uint8_t> wanted(target.size());
    INTARSIA_RETURN_IF_ERROR(whole_.ReadLayer(layer, wanted));
    INTARSIA_CHECK(std::ranges::equal(target, wanted));
    return Status::Ok();
  }

 private:
  static constexpr int64_t kPage = AsyncReader::kAlignment;
  static int64_t RoomOf(const MemoryKv& whole) {
    return (std::ssize(whole.layers()[0]) + kPage - 1) / kPage * kPage;
  }

  const MemoryKv& whole_;
  const int64_t room_bytes_;
  const int32_t spoilt_;
  std::unique_ptr<DirectFile> file_;
};

TEST(FusedPrefillTest, CachesThatAreReadBesideTheComputationGiveTheSameBits) {
  TinyFusionScene tiny("llama");
  const storage::TemporaryDirectory directory;
  for (const int32_t spoilt : {-1, 2}) {
    std::vector<PromptPart> parts = tiny.scene.chunks();
    std::vector<std::unique_ptr<FileKv>> files;
    for (size_t i = 0; i < parts.size(); ++i) {
      files.push_back(std::make_unique<FileKv>(dynamic_cast<const MemoryKv&>(*parts[i].cached),
                                               directory / std::to_string(i),
                                               i == 2 ? spoilt : -1));
      parts[i].cached = files.back().get();
    }
    const Prompt prompt = *Prompt::Create(tiny.scene.header(), parts, tiny.scene.question());
    const FusedContext context = tiny.scene.RunPrompt(prompt, {});
    if (!context.lost_segments.empty()) {
      EXPECT_EQ(spoilt, 2);
      EXPECT_EQ(context.lost_segments, std::vector<size_t>{3});
      EXPECT_EQ(context.logits,
                tiny.scene.RunPrompt(tiny.scene.prompt().WithoutCache(3), {}).logits);
    } else {
      EXPECT_EQ(context.logits, tiny.scene.Run({}).logits);
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
