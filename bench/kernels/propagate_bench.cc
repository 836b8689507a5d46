// Propagate and SpdSolve, which propagated recompute needs per layer and per request: FLOP/s of one
// thread, warm.
#include <cmath>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/convert.h"
#include "kernels/propagate.h"
#include "kernels/spd_solve.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {
namespace {

benchmark::Counter FlopRate(double flop) {
  return {flop, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000};
}

// Arguments: tokens, deltas, width.
void BM_Propagate_Chunk(benchmark::State& state) {
  const int64_t num_tokens = state.range(0);
  const int64_t num_deltas = state.range(1);
  const int64_t width = state.range(2);
  const auto values = RandomFloats(num_tokens * width, 1);
  std::vector<uint16_t> cached(values.size());
  F32ToBf16(values.data(), num_tokens * width, cached.data());
  const auto weights = RandomFloats(num_tokens * num_deltas, 2);
  const auto deltas = RandomFloats(num_deltas * width, 3);
  std::vector<float> target(values.size());
  const PropagateParams params = {.cached_bf16 = cached.data(),
                                  .weights = weights.data(),
                                  .deltas = deltas.data(),
                                  .target = target.data(),
                                  .num_tokens = num_tokens,
                                  .num_deltas = num_deltas,
                                  .width = width};
  for (auto _ : state) {
    const Status status = Propagate(params);
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  }
  state.counters["FLOP/s"] = FlopRate(2.0 * static_cast<double>(num_tokens * num_deltas * width));
}

BENCHMARK(BM_Propagate_Chunk)
    ->Args({410, 64, 192})
    ->Args({600, 90, 128})
    ->Args({64, 90, 128})
    ->Args({600, 0, 128})
    ->MinTime(0.1);

// The kernel matrix of evenly spaced tokens, as propagation builds it.
std::vector<double> KernelMatrix(int64_t size) {
  std::vector<double> a(static_cast<size_t>(size * size));
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      const double distance = 7.0 * static_cast<double>(i > j ? i - j : j - i);
      a[static_cast<size_t>(i * size + j)] = 0.4 + 0.15 * std::exp(-distance / 10.0) +
                                             0.15 * std::exp(-distance / 100.0) +
                                             (i == j ? 0.3 : 0.0);
    }
  }
  return a;
}

// Arguments: size.
void BM_SpdSolve_Cholesky(benchmark::State& state) {
  const int64_t size = state.range(0);
  const auto a = KernelMatrix(size);
  auto l = a;
  for (auto _ : state) {
    l = a;
    const Status status = Cholesky({l.data(), size, size});
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  }
  state.counters["FLOP/s"] = FlopRate(static_cast<double>(size * size * size) / 3.0);
}

// Arguments: size, columns. Both solves.
void BM_SpdSolve_Solve(benchmark::State& state) {
  const int64_t size = state.range(0);
  const int64_t num_columns = state.range(1);
  auto l = KernelMatrix(size);
  Cholesky({l.data(), size, size}).IgnoreError();  // Positive definite by construction.
  const std::vector<double> b(static_cast<size_t>(size * num_columns), 0.5);
  auto x = b;
  for (auto _ : state) {
    x = b;
    const SquareMatrix factor = {l.data(), size, size};
    const RightHandSides sides = {x.data(), num_columns, num_columns};
    if (!SolveLower(factor, sides).ok() || !SolveLowerTransposed(factor, sides).ok()) {
      return state.SkipWithError("a solve failed");
    }
  }
  state.counters["FLOP/s"] = FlopRate(2.0 * static_cast<double>(size * size * num_columns));
}

BENCHMARK(BM_SpdSolve_Cholesky)->Arg(90)->Arg(800)->MinTime(0.1);
BENCHMARK(BM_SpdSolve_Solve)->Args({90, 600})->Args({800, 5000})->MinTime(0.1);

}  // namespace
}  // namespace intarsia::kernels
