// PackedMatrix on the products of real models: FLOP/s, warm, because a forward pass is a chain of
// them. Compare with the peak of one thread times the number of threads.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/aligned_array.h"
#include "base/thread_pool.h"
#include "kernels/convert.h"
#include "kernels/packed_matrix.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

enum class Input : int64_t { kF32 = 0, kBf16 = 1 };

// Arguments: rows, inputs, outputs, threads, compute type, input type.
void BM_PackedMatrix_MatMul(benchmark::State& state) {
  const int64_t num_rows = state.range(0);
  const int64_t num_inputs = state.range(1);
  const int64_t num_outputs = state.range(2);
  const auto type = static_cast<ComputeType>(state.range(4));
  ThreadPool pool(static_cast<int>(state.range(3)));
  const ReadRows reader = [&](int64_t begin, int64_t end, float* target) {
    const auto rows = RandomFloats(num_inputs, static_cast<uint32_t>(begin), 0.05f);
    for (int64_t row = begin; row < end; ++row, target += num_inputs) {
      std::copy(rows.begin(), rows.end(), target);
    }
    return Status::Ok();
  };
  auto packed = PackedMatrix::Pack(num_outputs, num_inputs, type, reader, &pool);
  if (!packed.ok()) return state.SkipWithError(packed.status().ToString().c_str());

  const auto values = RandomFloats(num_rows * num_inputs, 1);
  AlignedArray<float> x(num_rows * num_inputs);
  AlignedArray<uint16_t> x_bf16(x.size());
  AlignedArray<float> y(num_rows * num_outputs);
  std::copy(values.begin(), values.end(), x.data());
  F32ToBf16(x.data(), x.size(), x_bf16.data());
  MatMulParams params = {.y = y.data(), .num_rows = num_rows};
  if (static_cast<Input>(state.range(5)) == Input::kBf16) {
    params.x_bf16 = x_bf16.data();
  } else {
    params.x = x.data();
  }
  MatMul(**packed, params, &pool).IgnoreError();  // Generates the code; the loop sees any error.
  for (auto _ : state) {
    const Status status = MatMul(**packed, params, &pool);
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  }
  state.counters["FLOP/s"] = benchmark::Counter(
      2.0 * static_cast<double>(num_rows * num_inputs * num_outputs),
      benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

// One thread at the best shape gives the peak that the others are compared with.
void Shapes(benchmark::internal::Benchmark* bench) {
  const auto add = [bench](int64_t rows, int64_t inputs, int64_t outputs, int64_t threads,
                           ComputeType type, Input input) {
    bench->Args(
        {rows, inputs, outputs, threads, static_cast<int64_t>(type), static_cast<int64_t>(input)});
  };
  add(2048, 576, 3072, 1, ComputeType::kBf16, Input::kBf16);
  for (const int64_t rows : {16, 64, 700, 2048}) {
    add(rows, 576, 960, 2, ComputeType::kBf16, Input::kBf16);
    add(rows, 576, 576, 2, ComputeType::kBf16, Input::kF32);
    add(rows, 576, 3072, 2, ComputeType::kBf16, Input::kBf16);
    add(rows, 1536, 576, 2, ComputeType::kBf16, Input::kBf16);
    add(rows, 896, 9728, 2, ComputeType::kBf16, Input::kBf16);
    add(rows, 4864, 896, 2, ComputeType::kBf16, Input::kBf16);
    add(rows, 576, 3072, 2, ComputeType::kF32, Input::kF32);
  }
}

BENCHMARK(BM_PackedMatrix_MatMul)->Apply(Shapes)->MinTime(0.1)->UseRealTime();

}  // namespace
}  // namespace intarsia::kernels
