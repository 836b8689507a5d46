#include "model/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/model/logit_difference.h"
#include "tests/model/reference_transformer.h"
#include "tests/model/tiny_models.h"

namespace intarsia::model {
namespace {

std::vector<int32_t> Positions(int64_t begin, int64_t end) {
  std::vector<int32_t> positions(static_cast<size_t>(end - begin));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
  return positions;
}

struct Loaded {
  ThreadPool pool{2};
  TinyModel tiny;
  std::unique_ptr<Transformer> transformer;
  std::unique_ptr<KvCache> cache;

  explicit Loaded(std::string_view family,
                  kernels::ComputeType compute = kernels::ComputeType::kF32)
      : tiny({.family = family}) {
    auto loaded = Transformer::Load(*tiny.file, {.compute = compute}, &pool);
    INTARSIA_CHECK(loaded.ok());
    transformer = *std::move(loaded);
    cache = *KvCache::Create(transformer->config(), transformer->kv_type(), 128);
  }
};

TEST(TransformerTest, PrefillOfEveryFamilyEqualsTheReference) {
  for (const std::string_view family : TinyFamilies()) {
    Loaded loaded(family);
    const std::vector<int32_t> tokens = SomeTokens(37, 160, 7);
    const std::vector<int32_t> positions = Positions(0, 37);
    const auto logits =
        loaded.transformer->Forward({.tokens = tokens, .positions = positions}, loaded.cache.get());
    ASSERT_TRUE(logits.ok()) << logits.status();
    const ReferenceTransformer reference(*loaded.tiny.file);
    auto cache = reference.EmptyCache(37);
    EXPECT_LT(LogitDifference(*logits, reference.Forward(tokens, positions, &cache)), 2e-4)
        << family;
  }
}

TEST(TransformerTest, Bf16StaysWithinItsRounding) {
  if (!kernels::HasFastBf16()) GTEST_SKIP() << "this CPU has no fast bf16";
  for (const std::string_view family : TinyFamilies()) {
    Loaded loaded(family, kernels::ComputeType::kBf16);
    const std::vector<int32_t> tokens = SomeTokens(37, 160, 7);
    const std::vector<int32_t> positions = Positions(0, 37);
    const auto logits =
        loaded.transformer->Forward({.tokens = tokens, .positions = positions}, loaded.cache.get());
    ASSERT_TRUE(logits.ok()) << logits.status();
    const ReferenceTransformer reference(*loaded.tiny.file);
    auto cache = reference.EmptyCache(37);
    EXPECT_LT(LogitDifference(*logits, reference.Forward(tokens, positions, &cache)), 0.2)
        << family;
  }
}

// On any CPU: without AVX512_VNNI the products are slow and the same.
TEST(TransformerTest, Int8StaysWithinItsRounding) {
  for (const std::string_view family : TinyFamilies()) {
    Loaded loaded(family, kernels::ComputeType::kInt8);
    const std::vector<int32_t> tokens = SomeTokens(37, 160, 7);
    const std::vector<int32_t> positions = Positions(0, 37);
    const auto logits =
        loaded.transformer->Forward({.tokens = tokens, .positions = positions}, loaded.cache.get());
    ASSERT_TRUE(logits.ok()) << logits.status();
    const ReferenceTransformer reference(*loaded.tiny.file);
    auto cache = reference.EmptyCache(37);
    EXPECT_LT(LogitDifference(*logits, reference.Forward(tokens, positions, &cache)), 0.3)
        << family;
  }
}

TEST(TransformerTest, DecodingTokenByTokenEqualsOnePrefill) {
  for (const std::string_view family : TinyFamilies()) {
    Loaded loaded(family);
    const std::vector<int32_t> tokens = SomeTokens(20, 160, 3);
    const std::vector<int32_t> positions = Positions(0, 20);
    const auto whole =
        loaded.transformer->Forward({.tokens = tokens, .positions = positions}, loaded.cache.get());
    ASSERT_TRUE(whole.ok());
    auto cache = *KvCache::Create(loaded.transformer->config(), loaded.transformer->kv_type(), 128);
    std::vector<float> last;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto step = loaded.transformer->Forward(
          {.tokens = {&tokens[i], 1}, .positions = {&positions[i], 1}}, cache.get());
      ASSERT_TRUE(step.ok());
      last = *step;
    }
    EXPECT_LT(LogitDifference(last, *whole), 1e-4) << family;
  }
}

TEST(TransformerTest, EveryLogitRowIsThatOfItsPrefix) {
  Loaded loaded("qwen3");
  const std::vector<int32_t> tokens = SomeTokens(19, 160, 5);
  const std::vector<int32_t> positions = Positions(0, 19);
  const auto rows = loaded.transformer->Forward(
      {.tokens = tokens, .positions = positions, .num_logit_rows = 11}, loaded.cache.get());
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), 11u * 160u);
  for (size_t row = 0; row < 11; ++row) {
    const size_t size = 19 - 11 + row + 1;
    auto cache = *KvCache::Create(loaded.transformer->config(), loaded.transformer->kv_type(), 64);
    const auto prefix = loaded.transformer->Forward(
        {.tokens = std::span(tokens).first(size), .positions = std::span(positions).first(size)},
        cache.get());
    ASSERT_TRUE(prefix.ok());
    const std::vector<float> one(rows->begin() + static_cast<int64_t>(row) * 160,
                                 rows->begin() + static_cast<int64_t>(row + 1) * 160);
    EXPECT_LT(LogitDifference(one, *prefix), 1e-4) << row;
  }
}

TEST(TransformerTest, ARowNeverSeesWhatComesAfterIt) {
  for (const std::string_view family : TinyFamilies()) {
    Loaded loaded(family);
    std::vector<int32_t> tokens = SomeTokens(24, 160, 11);
    const std::vector<int32_t> positions = Positions(0, 24);
    const auto run = [&](int32_t num_rows) {
      return *loaded.transformer->Forward(
          {.tokens = tokens, .positions = positions, .num_logit_rows = num_rows},
          loaded.cache.get());
    };
    const std::vector<float> before = run(24);
    tokens[15] = (tokens[15] + 1) % 160;
    const std::vector<float> after = run(24);
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + 15 * 160, after.begin())) << family;
    EXPECT_FALSE(std::equal(before.begin() + 15 * 160, before.end(), after.begin() + 15 * 160));
  }
}

TEST(TransformerTest, BadRowsAreRefused) {
  Loaded loaded("llama");
  const auto code_of = [&](const std::vector<int32_t>& tokens,
                           const std::vector<int32_t>& positions, int32_t num_logit_rows) {
    return loaded.transformer
        ->Forward({.tokens = tokens, .positions = positions, .num_logit_rows = num_logit_rows},
                  loaded.cache.get())
        .status()
        .code();
  };
  EXPECT_EQ(code_of({}, {}, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1}, {0, 1}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({160}, {0}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({-1}, {0}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1, 2}, {1, 1}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1, 2}, {2, 1}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1}, {128}, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1}, {0}, 2), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({1}, {0}, 1), StatusCode::kOk);
}

TEST(TransformerTest, CancelledPassReturnsCancelled) {
  Loaded loaded("llama");
  CancelToken cancel;
  cancel.Cancel();
  const int32_t token = 1;
  const int32_t position = 0;
  EXPECT_EQ(loaded.transformer
                ->Forward({.tokens = {&token, 1}, .positions = {&position, 1}, .cancel = &cancel},
                          loaded.cache.get())
                .status()
                .code(),
            StatusCode::kCancelled);
}

TEST(TransformerTest, UnknownFamilyAndMissingTensorsSayWhich) {
  ThreadPool pool(1);
  const std::string unknown = GgufBuilder().AddString("general.architecture", "mamba").Build();
  const auto file = GgufFile::Parse(unknown, "test");
  ASSERT_TRUE(file.ok());
  const auto refused = Transformer::Load(**file, {}, &pool);
  EXPECT_EQ(refused.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(refused.status().message().find("mamba"), std::string_view::npos);

  std::string bytes = TinyModelBytes({.family = "qwen2"});
  const std::string name = "blk.2.ffn_up.weight";
  bytes.replace(bytes.find(name), name.size(), "blk.2.ffn_UP.weight");
  const auto broken = GgufFile::Parse(bytes, "test");
  ASSERT_TRUE(broken.ok());
  const auto missing = Transformer::Load(**broken, {.compute = kernels::ComputeType::kF32}, &pool);
  EXPECT_EQ(missing.status().code(), StatusCode::kCorruption);
  EXPECT_NE(missing.status().message().find(name), std::string_view::npos);
}

}  // namespace
}  // namespace intarsia::model
