// The row-wise kernels of a forward pass on one thread, warm: elements per second. A pass over
// 2,048 tokens of a 576-wide model spends one call of each per layer, more or less.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/activation.h"
#include "kernels/convert.h"
#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/softmax.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kNumRows = 256;

// Runs `work`, which returns a Status, and reports elements per second.
template <typename Work>
void RunWarm(benchmark::State& state, int64_t num_elements, const Work& work) {
  for (auto _ : state) {
    const Status status = work();
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  }
  state.SetItemsProcessed(state.iterations() * num_elements);
}

void BM_Convert_F32ToBf16(benchmark::State& state) {
  const auto x = RandomFloats(kNumRows * 576, 1);
  std::vector<uint16_t> y(x.size());
  RunWarm(state, kNumRows * 576, [&] {
    F32ToBf16(x.data(), kNumRows * 576, y.data());
    return Status::Ok();
  });
}

void BM_RmsNorm_WithAddend(benchmark::State& state) {
  const int64_t dim = 576;
  auto x = RandomFloats(kNumRows * dim, 1);
  const std::vector<float> addend(x.size(), 0.0f);
  const auto weight = RandomFloats(dim, 3);
  std::vector<uint16_t> y(x.size());
  RunWarm(state, kNumRows * dim, [&] {
    return RmsNorm({.x = x.data(),
                    .addend = addend.data(),
                    .sum = x.data(),
                    .weight = weight.data(),
                    .y_bf16 = y.data(),
                    .num_rows = kNumRows,
                    .dim = dim,
                    .epsilon = 1e-5f},
                   nullptr);
  });
}

void BM_LayerNorm_WithAddend(benchmark::State& state) {
  const int64_t dim = 384;
  const auto x = RandomFloats(kNumRows * dim, 1);
  const auto addend = RandomFloats(kNumRows * dim, 2);
  const auto gain = RandomFloats(dim, 3);
  std::vector<float> y(x.size());
  std::vector<uint16_t> y_bf16(x.size());
  RunWarm(state, kNumRows * dim, [&] {
    return LayerNorm({.x = x.data(),
                      .addend = addend.data(),
                      .gain = gain.data(),
                      .bias = gain.data(),
                      .y = y.data(),
                      .y_bf16 = y_bf16.data(),
                      .num_rows = kNumRows,
                      .dim = dim,
                      .epsilon = 1e-12f},
                     nullptr);
  });
}

// Argument: the activation. Gate and up side by side, output in bf16.
void BM_Activation_Gated(benchmark::State& state) {
  const int64_t dim = 1536;
  const auto both = RandomFloats(kNumRows * 2 * dim, 1, 2.0f);
  std::vector<uint16_t> y(static_cast<size_t>(kNumRows * dim));
  RunWarm(state, kNumRows * dim, [&] {
    return Activate({.kind = static_cast<Activation>(state.range(0)),
                     .x = both.data(),
                     .up = both.data() + dim,
                     .x_stride = 2 * dim,
                     .y_bf16 = y.data(),
                     .num_rows = kNumRows,
                     .dim = dim},
                    nullptr);
  });
}

// Argument: the pairing. Keys of three heads.
void BM_Rope_Apply(benchmark::State& state) {
  const auto x = RandomFloats(kNumRows * 3 * 64, 1);
  const auto cosines = RandomFloats(kNumRows * 32, 2);
  std::vector<float> y(x.size());
  RunWarm(state, kNumRows * 3 * 64, [&] {
    return ApplyRope({.x = x.data(),
                      .cosines = cosines.data(),
                      .sines = cosines.data(),
                      .y = y.data(),
                      .num_tokens = kNumRows,
                      .num_heads = 3,
                      .head_dim = 64,
                      .rotary_dim = 64,
                      .pairing = static_cast<RopePairing>(state.range(0))},
                     nullptr);
  });
}

// The angles of a prompt of 6,000 tokens; elements are pairs.
void BM_Rope_Fill(benchmark::State& state) {
  auto table = RopeTable::Create({.rotary_dim = 64, .base = 100'000.0});
  if (!table.ok()) return state.SkipWithError(table.status().ToString().c_str());
  std::vector<int32_t> positions(6'000);
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<float> cosines(positions.size() * 32);
  std::vector<float> sines(cosines.size());
  RunWarm(state, int64_t{6'000} * 32,
          [&] { return (*table)->Fill(positions.data(), 6'000, cosines.data(), sines.data()); });
}

// A row of logits.
void BM_Softmax_Logits(benchmark::State& state) {
  const auto x = RandomFloats(151'936, 1, 4.0f);
  std::vector<float> y(x.size());
  RunWarm(state, 151'936, [&] {
    benchmark::DoNotOptimize(Softmax(x.data(), 151'936, 1.0f, y.data()));
    return Status::Ok();
  });
}

void BM_Softmax_ArgMax(benchmark::State& state) {
  const auto x = RandomFloats(151'936, 1, 4.0f);
  RunWarm(state, 151'936, [&] {
    benchmark::DoNotOptimize(ArgMax(x.data(), 151'936));
    return Status::Ok();
  });
}

BENCHMARK(BM_Convert_F32ToBf16)->MinTime(0.1);
BENCHMARK(BM_RmsNorm_WithAddend)->MinTime(0.1);
BENCHMARK(BM_LayerNorm_WithAddend)->MinTime(0.1);
BENCHMARK(BM_Activation_Gated)->DenseRange(0, 2)->MinTime(0.1);
BENCHMARK(BM_Rope_Apply)->DenseRange(0, 1)->MinTime(0.1);
BENCHMARK(BM_Rope_Fill)->MinTime(0.1);
BENCHMARK(BM_Softmax_Logits)->MinTime(0.1);
BENCHMARK(BM_Softmax_ArgMax)->MinTime(0.1);

}  // namespace
}  // namespace intarsia::kernels
