// What a search costs by binary codes and by the exact scan. Every measurement starts with a cold
// cache; scan_bench.cc has the scan of codes alone.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/kernels/host_timer.h"
#include "bench/kernels/run_timed.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "tests/index/clustered_vectors.h"

namespace intarsia::index {
namespace {

using kernels::HostTimer;
using kernels::RunTimed;

constexpr int64_t kNumRows = 20'000;
constexpr int64_t kNumQueries = 50;
constexpr int64_t kHits = 10;

std::unique_ptr<FlatIndex> MakeFlat(const ClusteredVectors& data) {
  FlatIndexOptions options;
  options.dim = data.dim;
  auto flat = *FlatIndex::Create(options);
  flat->Add(data.ids, data.rows).IgnoreError();  // Fresh vectors of unit length cannot be refused.
  return flat;
}

// Arguments: dimensions.
void BM_FlatIndex_Search(benchmark::State& state) {
  const ClusteredVectors data = MakeClusteredVectors(kNumRows, state.range(0), kNumQueries, 1);
  const auto flat = MakeFlat(data);
  int64_t query = 0;
  const auto search = [&] {
    SearchParams params;
    params.query = data.query(query++ % kNumQueries);
    params.k = kHits;
    return flat->Search(params).status();
  };
  RunTimed<HostTimer>(state, kNumRows * state.range(0) * 4, search);
}

// Arguments: dimensions, bits. Counters: recall@10 against the exact scan, vectors rescored.
void BM_BinaryIndex_Search(benchmark::State& state) {
  const ClusteredVectors data = MakeClusteredVectors(kNumRows, state.range(0), kNumQueries, 1);
  const auto flat = MakeFlat(data);
  BinaryIndexOptions options;
  options.bits = static_cast<int32_t>(state.range(1));
  const auto binary = *BinaryIndex::Build(*flat, options, nullptr);
  int64_t query = 0;
  int64_t num_rescored = 0;
  int64_t num_searches = 0;
  SearchParams params;
  params.k = kHits;
  const auto search = [&] {
    params.query = data.query(query++ % kNumQueries);
    const auto result = binary->Search(*flat, params, {});
    if (result.ok()) num_rescored += result->num_rescored;
    ++num_searches;
    return result.status();
  };
  RunTimed<HostTimer>(state, kNumRows * state.range(0) * state.range(1) / 8, search);
  int64_t num_found = 0;
  for (int64_t i = 0; i < kNumQueries; ++i) {
    params.query = data.query(i);
    const auto exact = flat->Search(params);
    const auto found = binary->Search(*flat, params, {});
    if (!exact.ok() || !found.ok()) continue;
    for (const SearchHit& hit : found->hits) {
      num_found += std::count(exact->begin(), exact->end(), hit);
    }
  }
  state.counters["recall"] = static_cast<double>(num_found) / (kNumQueries * kHits);
  state.counters["rescored"] =
      static_cast<double>(num_rescored) / static_cast<double>(num_searches);
}

BENCHMARK(BM_FlatIndex_Search)
    ->Arg(384)
    ->Arg(768)
    ->Iterations(10)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_BinaryIndex_Search)
    ->ArgsProduct({{384, 768}, {1, 2}})
    ->Iterations(10)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace intarsia::index
