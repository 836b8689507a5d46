// The forward pass on a device against the one on the CPU, over tiny models of every family.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "kernels/device.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"
#include "tests/model/tiny_models.h"

namespace intarsia::model {
namespace {

// Weights, activations and keys in bf16 against f32: each rounding is off by up to 2^-9, and a
// handful of them add up in a layer.
constexpr kernels::Tolerance kTolerance{.absolute = 1e9, .relative = 0.0, .nmse = 3e-3};

// A rounding to e4m3 is off by up to 2^-4, a product by 4 % of its size.
constexpr kernels::Tolerance kFp8Tolerance{.absolute = 1e9, .relative = 0.0, .nmse = 5e-2};

// Of two models whose products are in bf16, perhaps by different algorithms.
constexpr kernels::Tolerance kSameForm{.absolute = 1e9, .relative = 0.0, .nmse = 1e-4};

TinyShape ShapeOf(std::string_view family) {
  return {.family = family, .hidden = 128, .head_dim = 64, .ffn = 192, .vocab = 163};
}

class TransformerCudaTest : public kernels::DeviceTest,
                            public ::testing::WithParamInterface<std::string_view> {
 protected:
  static void SkipWithoutFp8() {
    if (Take(kernels::QueryDevice(0)).capability < 89) GTEST_SKIP() << "no products in e4m3";
  }
};

// Keeps the rows `kept` at layer `at`.
class Cutter : public LayerObserver {
 public:
  Cutter(int32_t at, std::vector<int32_t> kept) : at_(at), kept_(std::move(kept)) {}

  Status OnKeysAndValues(const LayerRows& rows, std::vector<int32_t>* kept) override {
    if (rows.layer != at_) return Status::Ok();
    *kept = kept_;
    const auto size = static_cast<int64_t>(rows.positions.size()) * kv_size;
    k.assign(rows.k, rows.k + size);
    v.assign(rows.v, rows.v + size);
    return Status::Ok();
  }
  Status OnQueries(const LayerQueries& /*queries*/) override { return Status::Ok(); }

  int64_t kv_size = 0;
  std::vector<float> k;
  std::vector<float> v;

 private:
  const int32_t at_;
  const std::vector<int32_t> kept_;
};

// Rows of bf16 on the device, `stride` elements apart, as f32.
std::vector<float> ReadRows(const DeviceModel& model, const uint16_t* rows, int64_t num_rows,
                            int64_t stride, int64_t width) {
  std::vector<float> values;
  std::vector<uint16_t> bits(static_cast<size_t>(width));
  for (int64_t row = 0; row < num_rows; ++row) {
    EXPECT_TRUE(
        kernels::CopyToHost(bits.data(), rows + row * stride, 2 * width, model.stream.get()).ok());
    EXPECT_TRUE(kernels::WaitFor(model.stream.get()).ok());
    for (const uint16_t bit : bits) values.push_back(kernels::Bf16ToF32(bit));
  }
  return values;
}

TEST_P(TransformerCudaTest, APrefillGivesTheLogitsOfTheCpu) {
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel model(*tiny.file);
  for (const size_t count : {1, 2, 40, 130}) {
    SCOPED_TRACE(count);
    const std::vector<int32_t> tokens = SomeTokens(static_cast<int64_t>(count), 163, 7);
    const std::vector<int32_t> positions = PositionsFrom(0, count);
    const int32_t num_logit_rows = count > 3 ? 3 : 1;
    const auto cpu_cache = model.NewCpuCache(200);
    const auto expected = model.cpu->Forward(
        {.tokens = tokens, .positions = positions, .num_logit_rows = num_logit_rows},
        cpu_cache.get());
    ASSERT_TRUE(expected.ok()) << expected.status();
    const auto kv = Take(model.kv_pool->Allocate(200, model.stream.get()));
    EXPECT_TRUE(kernels::ArraysAgree(model.Forward(tokens, positions, *kv, num_logit_rows),
                                     *expected, kTolerance));
  }
}

TEST_P(TransformerCudaTest, SparseRowsSeeWhatWasPlacedBefore) {
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel model(*tiny.file);
  const std::vector<int32_t> tokens = SomeTokens(150, 163, 9);
  const std::vector<int32_t> positions = PositionsFrom(0, tokens.size());
  const std::vector<int32_t> row_tokens = {5, 17, 90, 3, 44};
  const std::vector<int32_t> row_positions = {4, 60, 127, 128, 149};
  const auto cpu_cache = model.NewCpuCache(200);
  ASSERT_TRUE(model.cpu->Forward({.tokens = tokens, .positions = positions}, cpu_cache.get()).ok());
  const auto expected = model.cpu->Forward(
      {.tokens = row_tokens, .positions = row_positions, .num_logit_rows = 2}, cpu_cache.get());
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto kv = Take(model.kv_pool->Allocate(200, model.stream.get()));
  model.Forward(tokens, positions, *kv);
  EXPECT_TRUE(kernels::ArraysAgree(model.Forward(row_tokens, row_positions, *kv, 2), *expected,
                                   kTolerance));
}

TEST_P(TransformerCudaTest, RowsCanBeLookedAtAndCutWithinALayer) {
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel model(*tiny.file);
  const std::vector<int32_t> tokens = SomeTokens(141, 163, 11);
  const std::vector<int32_t> positions = PositionsFrom(0, tokens.size());
  const std::vector<int32_t> kept = {0, 3, 64, 100, 138, 140};
  Cutter cutter(/*at=*/1, kept);
  cutter.kv_size = model.cpu->config().kv_size();
  const auto cpu_cache = model.NewCpuCache(200);
  const auto kv = Take(model.kv_pool->Allocate(200, model.stream.get()));
  // Rows that are cut leave later layers' keys as they are, so there must be some.
  const std::vector<int32_t> placed = SomeTokens(141, 163, 12);
  ASSERT_TRUE(model.cpu->Forward({.tokens = placed, .positions = positions}, cpu_cache.get()).ok());
  model.Forward(placed, positions, *kv);
  const auto expected = model.cpu->Forward(
      {.tokens = tokens, .positions = positions, .num_logit_rows = 2, .observer = &cutter},
      cpu_cache.get());
  ASSERT_TRUE(expected.ok()) << expected.status();

  ASSERT_TRUE(model.forward->Begin(tokens, positions, *kv).ok());
  ASSERT_TRUE(model.forward->RunLayer(0).ok());
  ASSERT_TRUE(model.forward->ComputeQkv(1).ok());
  const CudaRows rows = model.forward->rows();
  EXPECT_EQ(rows.num_rows, 141);
  EXPECT_TRUE(
      kernels::ArraysAgree(ReadRows(model, rows.k, rows.num_rows, rows.kv_stride, cutter.kv_size),
                           cutter.k, kTolerance));
  EXPECT_TRUE(
      kernels::ArraysAgree(ReadRows(model, rows.v, rows.num_rows, rows.kv_stride, cutter.kv_size),
                           cutter.v, kTolerance));
  ASSERT_TRUE(model.forward->PlaceKv(1).ok());
  auto indices = Take(kernels::DeviceBuffer::Allocate(64, model.stream.get()));
  ASSERT_TRUE(kernels::CopyToDevice(indices.data(), kept.data(),
                                    static_cast<int64_t>(kept.size() * sizeof(int32_t)),
                                    model.stream.get())
                  .ok());
  ASSERT_TRUE(
      model.forward->KeepRows(indices.as<int32_t>(), static_cast<int64_t>(kept.size())).ok());
  EXPECT_EQ(model.forward->rows().num_rows, 6);
  ASSERT_TRUE(model.forward->Attend(1).ok());
  ASSERT_TRUE(model.forward->RunFfn(1).ok());
  EXPECT_TRUE(kernels::ArraysAgree(model.Finish(2, 2), *expected, kTolerance));
}

TEST_P(TransformerCudaTest, TheLastLayerNeedsNoMoreThanTheLastRows) {
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel model(*tiny.file);
  const std::vector<int32_t> tokens = SomeTokens(130, 163, 5);
  const auto kv = Take(model.kv_pool->Allocate(200, model.stream.get()));
  const std::vector<int32_t> positions = PositionsFrom(3, tokens.size());
  const int32_t last_layer = model.cuda->config().num_layers - 1;
  model.Forward(SomeTokens(3, 163, 6), PositionsFrom(0, 3), *kv);
  ASSERT_TRUE(model.forward->Begin(tokens, positions, *kv).ok());
  for (int32_t layer = 0; layer <= last_layer; ++layer) {
    ASSERT_TRUE(model.forward->RunLayer(layer).ok());
  }
  ASSERT_TRUE(model.forward->ComputeLogits(4).ok());
  const std::vector<float> expected = model.ReadLogits(4);
  for (const int64_t num_kept : {1, 3, 4, 65, 66, 130}) {
    SCOPED_TRACE(num_kept);
    ASSERT_TRUE(model.forward->Begin(tokens, positions, *kv).ok());
    for (int32_t layer = 0; layer < last_layer; ++layer) {
      ASSERT_TRUE(model.forward->RunLayer(layer).ok());
    }
    ASSERT_TRUE(model.forward->ComputeQkv(last_layer).ok());
    ASSERT_TRUE(model.forward->PlaceKv(last_layer).ok());
    EXPECT_EQ(model.forward->KeepLastRows(0).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(model.forward->KeepLastRows(131).code(), StatusCode::kInvalidArgument);
    ASSERT_TRUE(model.forward->KeepLastRows(num_kept).ok());
    EXPECT_EQ(model.forward->rows().num_rows, num_kept <= 65 ? num_kept : 130);
    ASSERT_TRUE(model.forward->Attend(last_layer).ok());
    ASSERT_TRUE(model.forward->RunFfn(last_layer).ok());
    const int64_t num_logit_rows = std::min<int64_t>(num_kept, 4);
    ASSERT_TRUE(model.forward->ComputeLogits(num_logit_rows).ok());
    const std::vector<float> last(expected.end() - num_logit_rows * 163, expected.end());
    EXPECT_TRUE(kernels::ArraysAgree(model.ReadLogits(num_logit_rows), last, kTolerance));
  }
}

TEST_P(TransformerCudaTest, ProductsInFp8StayNearThoseInBf16) {
  SkipWithoutFp8();
  if (IsSkipped()) return;
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel in_bf16(*tiny.file);
  const std::vector<int32_t> tokens = SomeTokens(130, 163, 7);
  const std::vector<int32_t> positions = PositionsFrom(0, tokens.size());
  const auto kv = Take(in_bf16.kv_pool->Allocate(200, in_bf16.stream.get()));
  const std::vector<float> expected = in_bf16.Forward(tokens, positions, *kv, 3);
  for (const auto& [rows_min, products] : {std::pair<int64_t, Fp8Products>{0, Fp8Products::kAll},
                                           {64, Fp8Products::kAll},
                                           {0, Fp8Products::kAllButQkv}}) {
    SCOPED_TRACE(rows_min);
    DeviceModel model(
        *tiny.file,
        {.compute = CudaCompute::kFp8, .fp8_rows_min = rows_min, .fp8_products = products});
    EXPECT_EQ(model.cuda->compute(), CudaCompute::kFp8);
    EXPECT_EQ(model.cuda->weight_bytes() > in_bf16.cuda->weight_bytes(), rows_min > 1);
    const auto fp8_kv = Take(model.kv_pool->Allocate(200, model.stream.get()));
    const std::vector<float> logits = model.Forward(tokens, positions, *fp8_kv, 3);
    EXPECT_TRUE(kernels::ArraysAgree(logits, expected, kFp8Tolerance));
    EXPECT_NE(logits, expected);
    EXPECT_EQ(model.Forward(tokens, positions, *fp8_kv, 3), logits);
    // Few rows over the keys and values that fp8 left.
    const std::vector<float> few = model.Forward({5, 17}, {60, 129}, *fp8_kv, 1);
    const std::vector<float> few_expected = in_bf16.Forward({5, 17}, {60, 129}, *kv, 1);
    EXPECT_TRUE(kernels::ArraysAgree(few, few_expected, kFp8Tolerance));
  }
}

TEST_P(TransformerCudaTest, PassesOfFewRowsAreInBf16) {
  SkipWithoutFp8();
  if (IsSkipped()) return;
  const TinyModel tiny(ShapeOf(GetParam()));
  DeviceModel in_bf16(*tiny.file);
  DeviceModel model(*tiny.file, {.compute = CudaCompute::kFp8, .fp8_rows_min = 41});
  const std::vector<int32_t> tokens = SomeTokens(40, 163, 7);
  const std::vector<int32_t> positions = PositionsFrom(0, tokens.size());
  const auto kv = Take(in_bf16.kv_pool->Allocate(64, in_bf16.stream.get()));
  const auto fp8_kv = Take(model.kv_pool->Allocate(64, model.stream.get()));
  EXPECT_TRUE(kernels::ArraysAgree(model.Forward(tokens, positions, *fp8_kv, 3),
                                   in_bf16.Forward(tokens, positions, *kv, 3), kSameForm));
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerCudaTest, ::testing::ValuesIn(TinyFamilies()),
                         [](const auto& family) { return std::string(family.param); });

using CudaForwardTest = kernels::DeviceTest;

TEST_F(CudaForwardTest, BadInputIsRefused) {
  const TinyModel tiny(ShapeOf("llama"));
  DeviceModel model(*tiny.file);
  const auto kv = Take(model.kv_pool->Allocate(100, model.stream.get()));
  const auto code = [&](std::vector<int32_t> tokens, std::vector<int32_t> positions) {
    return model.forward->Begin(tokens, positions, *kv).code();
  };
  EXPECT_EQ(code({}, {}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({1}, {0, 1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({163}, {0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({-1}, {0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({1, 2}, {5, 5}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({1}, {-1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({1}, {128}), StatusCode::kInvalidArgument);
  const std::vector<int32_t> many(DeviceModel::kRowsMax + 1, 1);
  EXPECT_EQ(code(many, PositionsFrom(0, many.size())), StatusCode::kInvalidArgument);
  EXPECT_EQ(model.forward->BeginOnDevice({.num_rows = 1}, *kv).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(model.forward->BeginBatch({.num_rows = 1}).code(), StatusCode::kInvalidArgument);
  model.Forward({1, 2}, {0, 1}, *kv);
  EXPECT_EQ(model.forward->ComputeLogits(3).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(model.forward->ComputeLogits(0).code(), StatusCode::kInvalidArgument);
}

TEST_F(CudaForwardTest, AShapeWithoutAKernelIsRefused) {
  const TinyModel tiny({.family = "llama"});  // head_dim 16
  ThreadPool pool(1);
  const auto loaded = CudaTransformer::Load(*tiny.file, 0, &pool);
  EXPECT_EQ(loaded.status().code(), StatusCode::kUnsupported) << loaded.status();
}

TEST_F(CudaForwardTest, ARandomModelRunsAndIsTheSameTwice) {
  const TinyModel tiny(ShapeOf("llama"));
  const auto config = Take(ModelConfig::FromGguf(*tiny.file));
  std::vector<std::vector<float>> logits;
  for (int run = 0; run < 2; ++run) {
    const auto stream = Take(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
    const auto model = Take(CudaTransformer::CreateRandom(config, 0, /*seed=*/3));
    const auto pool =
        Take(DeviceKvPool::Create(config, {.budget_bytes = int64_t{8} << 20}, stream.get()));
    const auto kv = Take(pool->Allocate(10, stream.get()));
    const auto forward = Take(CudaForward::Create(*model, {.num_rows_max = 8}, stream.get()));
    ASSERT_TRUE(forward->Begin(std::vector<int32_t>{1, 2, 3}, PositionsFrom(0, 3), *kv).ok());
    ASSERT_TRUE(forward->RunLayers(0, 1).ok());
    ASSERT_TRUE(forward->ComputeLogits(1).ok());
    std::vector<float> row(static_cast<size_t>(config.vocab_size));
    ASSERT_TRUE(kernels::CopyToHost(row.data(), forward->logits(), config.vocab_size * int64_t{4},
                                    stream.get())
                    .ok());
    ASSERT_TRUE(kernels::WaitFor(stream.get()).ok());
    EXPECT_LT(*std::ranges::max_element(row), 100.0F);
    EXPECT_GT(*std::ranges::max_element(row), 0.1F);
    logits.push_back(row);
  }
  EXPECT_EQ(logits[0], logits[1]);
}

}  // namespace
}  // namespace intarsia::model
