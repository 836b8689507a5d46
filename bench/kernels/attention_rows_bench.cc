// AttentionRows and AttentionMass on the shapes of real models: floating-point operations on
// visible keys per second, beside those of a plain matrix product; for a single row the bytes of
// keys and values read per second, beside the same bytes merely read.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/aligned_array.h"
#include "base/thread_pool.h"
#include "bench/kernels/host_timer.h"
#include "bench/kernels/read_roof.h"
#include "bench/kernels/run_timed.h"
#include "kernels/attention_rows.h"
#include "kernels/packed_matrix.h"
#include "tests/kernels/attention_rows_cases.h"

namespace intarsia::kernels {
namespace {

// {num_heads, num_kv_heads, head_dim}
constexpr int32_t kModels[][3] = {{9, 3, 64}, {14, 2, 64}, {16, 8, 128}, {4, 1, 256}};

enum Model : int64_t { kSmolLm2 = 0, kQwen = 1, kHeadDim128 = 2, kHeadDim256 = 3 };
enum Rows : int64_t { kPrefill = 0, kSparse = 1, kDecode = 2, kQuestion = 3 };

// 2,048 rows over themselves; 700 of 4,160; one row over 6,000 keys; the last 64 rows of 6,000.
std::vector<int32_t> PositionsOf(int64_t rows) {
  if (rows == kPrefill) return PositionRange(0, 2'048);
  if (rows == kSparse) return ScatteredPositions(700, 4'160);
  return rows == kDecode ? PositionRange(5'999, 6'000) : PositionRange(5'936, 6'000);
}

// Of state.range: model, rows, type, number of threads.
AttentionRowsCase CaseOf(const benchmark::State& state) {
  const int32_t* const model = kModels[state.range(0)];
  return {.name = "bench",
          .num_heads = model[0],
          .num_kv_heads = model[1],
          .head_dim = model[2],
          .positions = PositionsOf(state.range(1)),
          .type = static_cast<KvType>(state.range(2))};
}

std::string LabelOf(const AttentionRowsCase& problem) {
  return std::to_string(problem.num_heads) + "/" + std::to_string(problem.num_kv_heads) + "x" +
         std::to_string(problem.head_dim) + " rows=" + std::to_string(problem.positions.size()) +
         " keys=" + std::to_string(problem.positions.back() + 1) +
         (problem.type == KvType::kF32 ? " f32" : " bf16");
}

int64_t NumKvBytes(const AttentionRowsCase& problem, const AttentionRowsData& data) {
  return 2 * KvLayerBytes(problem.type, problem.num_kv_heads, problem.head_dim,
                          (data.num_keys() + 15) / 16 * 16);
}

void ReportFlops(benchmark::State& state, double num_flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(num_flops, benchmark::Counter::kIsIterationInvariantRate);
}

void BM_AttentionRows(benchmark::State& state) {
  const AttentionRowsCase problem = CaseOf(state);
  AttentionRowsData data(problem);
  ThreadPool pool(static_cast<int>(state.range(3)));
  RunTimed<HostTimer>(state, NumKvBytes(problem, data),
                      [&] { return AttentionRows(data.Params(), &pool); });
  ReportFlops(state, data.NumFlops());
  state.SetLabel(LabelOf(problem));
}

// Counts half of the operations: only the products of queries and keys are needed.
void BM_AttentionMass(benchmark::State& state) {
  const AttentionRowsCase problem = CaseOf(state);
  AttentionRowsData data(problem);
  const std::vector<float> weights(problem.positions.size(), 1.0F);
  std::vector<float> mass(static_cast<size_t>(data.num_keys()));
  ThreadPool pool(static_cast<int>(state.range(3)));
  const AttentionMassParams params{.rows = data.Params(),
                                   .weights = weights.data(),
                                   .mass = mass.data(),
                                   .num_keys = data.num_keys()};
  RunTimed<HostTimer>(state, NumKvBytes(problem, data),
                      [&] { return AttentionMass(params, &pool); });
  ReportFlops(state, data.NumFlops() / 2.0);
  state.SetLabel(LabelOf(problem));
}

// Stores and loads 4,096 tokens, counting the bytes of the layer.
void BM_KvLayout(benchmark::State& state) {
  AttentionRowsCase problem = CaseOf(state);
  problem.positions = {4'095};
  AttentionRowsData data(problem);
  const int64_t num_tokens = data.num_keys();
  const int64_t size = num_tokens * problem.num_kv_heads * problem.head_dim;
  std::vector<float> k(static_cast<size_t>(size), 1.0F);
  std::vector<float> v(k);
  const std::vector<int32_t> tokens = PositionRange(0, static_cast<int32_t>(num_tokens));
  const bool is_store = state.range(1) == 0;
  RunTimed<HostTimer>(state, NumKvBytes(problem, data), [&] {
    return is_store ? StoreKv({data.layer(), tokens.data(), k.data(), v.data(), num_tokens})
                    : LoadKv({data.layer(), 0, num_tokens, k.data(), v.data()});
  });
  state.SetLabel(is_store ? "store" : "load");
}

// A square matrix product of 1,024, the compute roof. {compute type, number of threads}
void BM_AttentionRows_MatMulRoof(benchmark::State& state) {
  constexpr int64_t kSize = 1'024;
  const auto type = static_cast<ComputeType>(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  AlignedArray<float> x(kSize * kSize);
  AlignedArray<float> y(kSize * kSize);
  std::fill_n(x.data(), x.size(), 0.5F);
  const auto read_rows = [](int64_t begin, int64_t end, float* target) {
    std::fill_n(target, (end - begin) * kSize, 0.25F);
    return Status::Ok();
  };
  const auto matrix = PackedMatrix::Pack(kSize, kSize, type, read_rows, &pool);
  if (!matrix.ok()) {
    state.SkipWithError(matrix.status().ToString().c_str());
    return;
  }
  MatMulParams params{.x = x.data(), .y = y.data(), .num_rows = kSize};
  RunTimed<HostTimer>(state, 0, [&] { return MatMul(**matrix, params, &pool); });
  ReportFlops(state, 2.0 * kSize * kSize * kSize);
  state.SetLabel(type == ComputeType::kF32 ? "f32" : "bf16");
}

void BM_AttentionRows_ReadRoof(benchmark::State& state) { RunReadRoof(state); }

void RowShapes(benchmark::internal::Benchmark* bench) {
  const auto bf16 = static_cast<int64_t>(KvType::kBf16);
  const auto f32 = static_cast<int64_t>(KvType::kF32);
  for (const int64_t threads : {1, 2}) {
    for (const int64_t model : {kSmolLm2, kQwen, kHeadDim128, kHeadDim256}) {
      bench->Args({model, kPrefill, bf16, threads});
    }
    bench->Args({kSmolLm2, kPrefill, f32, threads});
    for (const int64_t model : {kSmolLm2, kQwen}) {
      for (const int64_t rows : {kSparse, kQuestion, kDecode}) {
        bench->Args({model, rows, bf16, threads});
      }
    }
  }
}

BENCHMARK(BM_AttentionRows_MatMulRoof)
    ->ArgsProduct({{static_cast<int64_t>(ComputeType::kF32),
                    static_cast<int64_t>(ComputeType::kBf16)},
                   {1, 2}})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
// The keys and values of 9/3 and of 14/2 heads at 6,000 tokens.
BENCHMARK(BM_AttentionRows_ReadRoof)
    ->ArgsProduct({{4'608'000, 3'072'000}, {1, 2}})
    ->Iterations(9)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_AttentionRows)
    ->Apply(RowShapes)
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_AttentionMass)
    ->Args({kSmolLm2, kQuestion, static_cast<int64_t>(KvType::kBf16), 1})
    ->Args({kQwen, kQuestion, static_cast<int64_t>(KvType::kBf16), 1})
    ->Args({kQwen, kQuestion, static_cast<int64_t>(KvType::kBf16), 2})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_KvLayout)
    ->ArgsProduct({{kSmolLm2},
                   {0, 1},
                   {static_cast<int64_t>(KvType::kF32), static_cast<int64_t>(KvType::kBf16)}})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace intarsia::kernels
