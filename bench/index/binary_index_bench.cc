// What a search costs by binary codes and by the exact scan, and how close the scan of codes comes
// to reading memory. Every measurement starts with a cold cache.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/kernels/host_timer.h"
#include "bench/kernels/run_timed.h"
#include "index/binary_index.h"
#include "index/flat_index.h"
#include "kernels/binary_scan.h"
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

// The scan alone, one thread. Arguments: bits of a code in all its planes, planes.
void BM_BinaryIndex_Scan(benchmark::State& state) {
  const int64_t num_planes = state.range(1);
  const int64_t num_words = state.range(0) / 64 / num_planes;
  constexpr int64_t kNumCodes = int64_t{1} << 20;
  const auto num_plane_words = static_cast<size_t>(kNumCodes * num_words);
  const std::vector<uint64_t> codes(num_plane_words * static_cast<size_t>(num_planes), 0x123456789);
  const std::vector<uint64_t> query(static_cast<size_t>(4 * num_words), 0xfedcba98);
  const std::vector<float> factors(kNumCodes, 1.0F);
  std::vector<float> scores(kNumCodes);
  kernels::BinaryScanParams params;
  params.planes[0] = codes.data();
  params.planes[1] = codes.data() + codes.size() - num_plane_words;
  params.num_planes = num_planes;
  params.query_planes = query.data();
  params.num_words = num_words;
  params.num_blocks = kNumCodes / kernels::kBinaryBlockCodes;
  params.scales = factors.data();
  params.offsets = factors.data();
  params.half_step = 1.0F;
  params.scores = scores.data();
  RunTimed<HostTimer>(state, static_cast<int64_t>(codes.size() * 8),
                      [&] { return kernels::BinaryScan(params); });
  state.counters["codes"] = benchmark::Counter(static_cast<double>(kNumCodes * state.iterations()),
                                               benchmark::Counter::kIsRate);
}

// The baseline of the scan: one thread reads as many bytes. Arguments: bits of a code.
void BM_BinaryIndex_ReadMemory(benchmark::State& state) {
  const std::vector<uint64_t> words(static_cast<size_t>(state.range(0) / 64) << 20, 1);
  const auto read = [&] {
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 8 <= words.size(); i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
    }
    benchmark::DoNotOptimize(sums);
    return Status::Ok();
  };
  RunTimed<HostTimer>(state, static_cast<int64_t>(words.size() * 8), read);
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
BENCHMARK(BM_BinaryIndex_Scan)
    ->Args({384, 1})
    ->Args({768, 2})
    ->Args({768, 1})
    ->Args({1'024, 1})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_BinaryIndex_ReadMemory)
    ->Arg(384)
    ->Arg(1'024)
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace intarsia::index
