// Decoding on a device: a graph's tokens against those of single passes and of the CPU.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "model/cuda_decoder.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"
#include "tests/model/tiny_models.h"

namespace intarsia::model {
namespace {

using DecoderCudaTest = kernels::DeviceTest;

TinyShape ShapeOf(std::string_view family) {
  return {.family = family, .hidden = 128, .head_dim = 64, .ffn = 192, .vocab = 163};
}

int32_t LargestOf(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

// A prompt that is placed but for its last token, where decoding starts.
struct Request {
  std::vector<int32_t> prompt;
  std::unique_ptr<DeviceKv> kv;

  CudaDecodeRow Row(const kernels::SampleRule& rule = {}) const {
    return {.kv = kv.get(),
            .token = prompt.back(),
            .position = static_cast<int32_t>(prompt.size()) - 1,
            .rule = rule};
  }
};

Request MakeRequest(DeviceModel* model, int64_t prompt_size, uint32_t seed) {
  Request request{.prompt = SomeTokens(prompt_size, 163, seed),
                  .kv = Take(model->kv_pool->Allocate(prompt_size + 40, model->stream.get()))};
  for (int64_t begin = 0; begin + 1 < prompt_size; begin += DeviceModel::kRowsMax) {
    const int64_t end = std::min(prompt_size - 1, begin + DeviceModel::kRowsMax);
    const std::vector<int32_t> part(request.prompt.begin() + begin, request.prompt.begin() + end);
    model->Forward(part, PositionsFrom(static_cast<int32_t>(begin), part.size()), *request.kv);
  }
  return request;
}

// Greedy tokens by passes of one row each, over a copy of the request.
std::vector<int32_t> TokensByPasses(DeviceModel* model, int64_t prompt_size, uint32_t seed,
                                    int count) {
  const Request request = MakeRequest(model, prompt_size, seed);
  std::vector<int32_t> tokens = {request.prompt.back()};
  auto position = static_cast<int32_t>(prompt_size) - 1;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(LargestOf(model->Forward({tokens.back()}, {position++}, *request.kv)));
  }
  tokens.erase(tokens.begin());
  return tokens;
}

// The tokens of each row over `count` steps.
std::vector<std::vector<int32_t>> Decode(CudaDecoder* decoder,
                                         const std::vector<CudaDecodeRow>& rows, int count) {
  std::vector<std::vector<int32_t>> tokens(rows.size());
  const Status begun = decoder->Begin(rows);
  EXPECT_TRUE(begun.ok()) << begun;
  for (int step = 0; step < count; ++step) {
    const Status status = decoder->Step();
    EXPECT_TRUE(status.ok()) << status;
    const auto drawn = decoder->Wait();
    EXPECT_TRUE(drawn.ok()) << drawn.status();
    for (size_t row = 0; row < rows.size(); ++row) tokens[row].push_back((*drawn)[row]);
  }
  return tokens;
}

TEST_F(DecoderCudaTest, ABatchDecodesTheTokensOfItsRequestsAlone) {
  const auto num_steps = static_cast<int>(kernels::TestCount(6, 2));
  for (const std::string_view family : {"llama", "gemma3"}) {
    SCOPED_TRACE(family);
    const TinyModel tiny(ShapeOf(family));
    DeviceModel model(*tiny.file);
    const auto decoder = Take(CudaDecoder::Create(
        *model.cuda, *model.kv_pool, {.batch_max = 3, .num_tokens_max = 512}, model.stream.get()));
    const std::vector<int64_t> sizes = {1, 127, 20};
    std::vector<Request> requests;
    std::vector<std::vector<int32_t>> expected;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const auto seed = static_cast<uint32_t>(i);
      expected.push_back(TokensByPasses(&model, sizes[i], seed, num_steps));
      requests.push_back(MakeRequest(&model, sizes[i], seed));
    }
    EXPECT_EQ(
        Decode(decoder.get(), {requests[0].Row(), requests[1].Row(), requests[2].Row()}, num_steps),
        expected);
    // The same shapes with another batch: what a graph reads is data.
    EXPECT_EQ(Decode(decoder.get(), {requests[2].Row(), requests[0].Row()}, num_steps),
              (std::vector<std::vector<int32_t>>{expected[2], expected[0]}));
    EXPECT_EQ(Decode(decoder.get(), {requests[1].Row()}, num_steps),
              (std::vector<std::vector<int32_t>>{expected[1]}));
  }
}

// Where a graph ends and another one begins: at 1,024 positions.
TEST_F(DecoderCudaTest, ALongAnswerIsTheSameByGraphsAndByTheStepsTheyWereRecordedFrom) {
  constexpr int64_t kPromptSize = 1'020;
  const int64_t last_position = kPromptSize + kernels::TestCount(11, 5);
  for (const std::string_view family : {"llama", "gemma3"}) {
    SCOPED_TRACE(family);
    const TinyModel tiny(ShapeOf(family));
    DeviceModel model(*tiny.file);
    const auto decoder = Take(CudaDecoder::Create(
        *model.cuda, *model.kv_pool,
        {.batch_max = 1, .num_tokens_max = 1'100, .first_observed_layer = 1}, model.stream.get()));
    const Request request = MakeRequest(&model, kPromptSize, 3);
    std::vector<std::pair<int32_t, std::vector<float>>> expected;
    // The first round launches the first step of either shape kernel by kernel.
    for (int round = 0; round < 3; ++round) {
      ASSERT_TRUE(decoder->Begin(std::vector<CudaDecodeRow>{request.Row()}).ok());
      std::vector<std::pair<int32_t, std::vector<float>>> seen;
      for (int64_t position = kPromptSize - 1; position <= last_position; ++position) {
        ASSERT_TRUE(decoder->Step().ok());
        const int32_t token = Take(decoder->Wait()).front();
        const auto all = decoder->attention();
        ASSERT_GT(std::ssize(all), position);
        const auto end = all.begin() + position + 1;
        EXPECT_EQ(std::count(end, all.end(), 0.0f), all.end() - end);
        seen.emplace_back(token, std::vector<float>(all.begin(), end));
        // Each layer hands out one.
        EXPECT_NEAR(std::accumulate(all.begin(), end, 0.0), model.cuda->config().num_layers - 1,
                    0.05);
      }
      if (round == 0) expected = seen;
      EXPECT_EQ(seen, expected);
    }
  }
}

TEST_F(DecoderCudaTest, SampledTokensFollowTheirSeed) {
  const TinyModel tiny(ShapeOf("qwen3"));
  DeviceModel model(*tiny.file);
  const auto decoder = Take(CudaDecoder::Create(
      *model.cuda, *model.kv_pool, {.batch_max = 2, .num_tokens_max = 512}, model.stream.get()));
  const Request request = MakeRequest(&model, 9, 1);
  const auto decode = [&](uint64_t seed) {
    return Decode(decoder.get(), {request.Row({.temperature = 1.0F, .seed = seed})}, 8);
  };
  const auto first = decode(1);
  EXPECT_EQ(decode(1), first);
  EXPECT_NE(decode(2), first);
}

TEST_F(DecoderCudaTest, BadInputIsRefusedAndPagesRunOut) {
  const TinyModel tiny(ShapeOf("llama"));
  DeviceModel model(*tiny.file);
  EXPECT_EQ(CudaDecoder::Create(*model.cuda, *model.kv_pool,
                                {.batch_max = 33, .num_tokens_max = 10}, model.stream.get())
                .status()
                .code(),
            StatusCode::kInvalidArgument);
  // Layers are observed where there is one request, and if the model has them.
  for (const auto& [batch_max, layer] : {std::pair(2, 0), {1, -1}, {1, 1000}}) {
    EXPECT_EQ(CudaDecoder::Create(
                  *model.cuda, *model.kv_pool,
                  {.batch_max = batch_max, .num_tokens_max = 10, .first_observed_layer = layer},
                  model.stream.get())
                  .status()
                  .code(),
              StatusCode::kInvalidArgument);
  }
  const auto decoder = Take(CudaDecoder::Create(
      *model.cuda, *model.kv_pool, {.batch_max = 1, .num_tokens_max = 512}, model.stream.get()));
  const auto kv = Take(model.kv_pool->Allocate(1, model.stream.get()));
  const auto code = [&](std::vector<CudaDecodeRow> rows) { return decoder->Begin(rows).code(); };
  EXPECT_EQ(code({}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{.kv = kv.get()}, {.kv = kv.get()}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{.kv = nullptr}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{.kv = kv.get(), .token = 163}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{.kv = kv.get(), .position = 128}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{.kv = kv.get(), .rule = {.top_p = 2.0F}}}), StatusCode::kInvalidArgument);
  // Positions 0 to 125 hold anything finite: nothing is asserted about the token.
  const std::vector<int32_t> before = SomeTokens(126, 163, 1);
  model.Forward(before, PositionsFrom(0, before.size()), *kv);
  ASSERT_TRUE(decoder->Begin(std::vector<CudaDecodeRow>{{.kv = kv.get(), .position = 126}}).ok());
  EXPECT_TRUE(decoder->Step().ok());
  EXPECT_TRUE(decoder->Step().ok());
  EXPECT_EQ(decoder->Step().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(decoder->Wait().ok());
}

}  // namespace
}  // namespace intarsia::model
