// What embedding costs, in tokens per second of all cores. The models folder must hold MiniLM:
// tools/fetch_models.sh minilm. Run from the root of the checkout.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "model/embedder.h"

namespace intarsia::model {
namespace {

// FLOP a token in the matrix products of MiniLM: 6 layers of 4 * 384^2 + 2 * 384 * 1536 weights.
constexpr double kFlopPerToken = 2.0 * 6 * (4 * 384 * 384 + 2 * 384 * 1536);

// Arguments: texts a call, tokens a text.
void RunMiniLm(benchmark::State& state, EmbedderPrecision precision) {
  ThreadPool pool;
  const auto embedder =
      Embedder::Load("models/all-MiniLM-L6-v2", {.pool = &pool, .precision = precision});
  if (!embedder.ok()) {
    state.SkipWithError(embedder.status().ToString().c_str());
    return;
  }
  std::string text;
  for (int64_t i = 2; i < state.range(1); ++i) text += "river ";  // One token each.
  const std::vector<std::string_view> texts(static_cast<size_t>(state.range(0)), text);
  std::vector<float> vectors(texts.size() * static_cast<size_t>((*embedder)->dimension()));
  const auto embed = [&] {
    return (*embedder)->Embed(texts, TextRole::kDocument, vectors.data(), nullptr);
  };
  embed().IgnoreError();  // Warm-up; the loop meets the same error.
  for (auto _ : state) {
    if (const Status status = embed(); !status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      return;
    }
  }
  const auto num_tokens = static_cast<double>(state.iterations() * state.range(0) * state.range(1));
  state.counters["tokens"] = benchmark::Counter(num_tokens, benchmark::Counter::kIsRate);
  state.counters["FLOP"] =
      benchmark::Counter(num_tokens * kFlopPerToken, benchmark::Counter::kIsRate);
}

void BM_Embedder_MiniLmFastest(benchmark::State& state) {
  RunMiniLm(state, EmbedderPrecision::kFastest);
}
void BM_Embedder_MiniLmF32(benchmark::State& state) { RunMiniLm(state, EmbedderPrecision::kF32); }

// A question, and documents in chunks of 64 and 256 tokens.
BENCHMARK(BM_Embedder_MiniLmFastest)
    ->Args({1, 12})
    ->Args({64, 64})
    ->Args({16, 256})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(10)
    ->Repetitions(5)
    ->UseRealTime();
BENCHMARK(BM_Embedder_MiniLmF32)
    ->Args({16, 256})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5)
    ->Repetitions(5)
    ->UseRealTime();

}  // namespace
}  // namespace intarsia::model
