// QuantizedGemv on the shapes of real models: bytes of weights read per second, weights per second,
// and beside it the same bytes merely read.
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/thread_pool.h"
#include "bench/kernels/host_timer.h"
#include "bench/kernels/read_roof.h"
#include "bench/kernels/run_timed.h"
#include "kernels/quantized_gemv.h"
#include "tests/kernels/quantized_gemv_cases.h"

namespace intarsia::kernels {
namespace {

void BM_QuantizedGemv(benchmark::State& state) {
  const auto type = static_cast<BlockType>(state.range(0));
  const int64_t num_inputs = state.range(1);
  const int64_t num_outputs = state.range(2);
  const int64_t num_rows = state.range(3);
  GemvData data(type, num_outputs, num_inputs, num_rows);
  ThreadPool pool(static_cast<int>(state.range(4)));
  RunTimed<HostTimer>(state, num_outputs * RowBytes(type, num_inputs),
                      [&] { return QuantizedGemv(data.params, &pool); });
  state.SetItemsProcessed(state.iterations() * num_outputs * num_inputs);
  state.SetLabel(std::string(BlockTypeName(type)));
}

void BM_QuantizedGemv_ReadRoof(benchmark::State& state) { RunReadRoof(state); }

// The layers and heads of SmolLM2-135M and Qwen2.5-0.5B; every type on one large shape, so that the
// figures can be compared; more rows for the types that matter most.
void Shapes(benchmark::internal::Benchmark* bench) {
  const auto add = [bench](BlockType type, int64_t inputs, int64_t outputs, int64_t rows,
                           int64_t threads) {
    bench->Args({static_cast<int64_t>(type), inputs, outputs, rows, threads});
  };
  for (const BlockType type : kAllBlockTypes) add(type, 1024, 32768, 1, 2);
  add(BlockType::kQ4_1, 576, 1536, 1, 2);
  add(BlockType::kQ4_1, 1536, 576, 1, 2);
  add(BlockType::kQ8_0, 576, 49152, 1, 2);
  add(BlockType::kQ5_0, 896, 4864, 1, 2);
  for (const int64_t threads : {1, 2}) add(BlockType::kQ8_0, 896, 151936, 1, threads);
  for (const int64_t threads : {1, 2}) add(BlockType::kQ6_K, 1024, 132096, 1, threads);
  for (const int64_t rows : {2, 4, 8}) {
    for (const BlockType type : {BlockType::kQ4_1, BlockType::kQ4_K, BlockType::kQ6_K}) {
      add(type, 1024, 32768, rows, 2);
    }
  }
}

BENCHMARK(BM_QuantizedGemv_ReadRoof)
    ->Args({int64_t{64} << 20, 1})
    ->Args({int64_t{64} << 20, 2})
    ->UseManualTime()
    ->Iterations(5);
BENCHMARK(BM_QuantizedGemv)->Apply(Shapes)->UseManualTime()->Iterations(5);

}  // namespace
}  // namespace intarsia::kernels
