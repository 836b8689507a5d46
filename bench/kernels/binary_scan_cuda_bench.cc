// Scans of 1M, 10M and 100M random codes of 1,024 bits on a device, as many as its memory holds:
// one query, one with a filter, and batches. GB/s count the codes that the filter leaves, so that
// they compare with the copy of the same run, which counts what it reads and what it writes.
// The methods of one query: 1 adds and counts, 2 is the tensor cores; of batches: 1 is mma.sync, 2
// wgmma.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/result.h"
#include "bench/kernels/device_timer.h"
#include "kernels/binary_batch_scan_cuda.h"
#include "kernels/binary_scan_cuda.h"
#include "kernels/device.h"
#include "kernels/random_weights.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kNumWords = 16;
constexpr int64_t kRowBytes = kNumWords * 8;
constexpr int64_t kRowsMax = 100'000'000;
constexpr int64_t kPatternRows = 1'000'000;  // after which factors and filters repeat
constexpr int64_t kQueriesMax = 256;
constexpr int64_t kK = 10;
constexpr int64_t kCandidatesMax = 1'024;
// Levels of a query have this deviation, so that a product of 1,024 has deviation 1.
constexpr float kStep4Bits = 1.0F / (9.22F * 32.0F);
constexpr float kStep8Bits = 1.0F / (73.3F * 32.0F);

struct Collection {
  BinaryRows rows;
  std::vector<DeviceBuffer> memory;
  double seconds_to_make = 0.0;  // of blocks rows, once they are there

  Result<void*> Allocate(int64_t num_bytes) {
    INTARSIA_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Allocate(num_bytes, nullptr));
    memory.push_back(std::move(buffer));
    return memory.back().data();
  }

  // `pattern` again and again.
  template <typename T>
  Result<T*> Repeat(const std::vector<T>& pattern, int64_t count) {
    INTARSIA_ASSIGN_OR_RETURN(void* const target,
                              Allocate(count * static_cast<int64_t>(sizeof(T))));
    const auto size = static_cast<int64_t>(pattern.size());
    for (int64_t begin = 0; begin < count; begin += size) {
      INTARSIA_RETURN_IF_ERROR(
          CopyToDevice(static_cast<T*>(target) + begin, pattern.data(),
                       std::min(size, count - begin) * static_cast<int64_t>(sizeof(T)), nullptr));
    }
    return static_cast<T*>(target);
  }
};

std::vector<float> UniformFloats(float from, float to, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(from, to);
  std::vector<float> floats(kPatternRows);
  for (float& value : floats) value = uniform(random);
  return floats;
}

Result<std::unique_ptr<Collection>> MakeCollection() {
  INTARSIA_RETURN_IF_ERROR(UseDevice(0));
  INTARSIA_ASSIGN_OR_RETURN(const DeviceInfo info, QueryDevice(0));
  auto collection = std::make_unique<Collection>();
  int64_t num_rows = kRowsMax;
  // Blocks, rows, factors and the buffers of the copy beside them.
  while (num_rows > 1'000'000 && num_rows * (2 * kRowBytes + 32) > info.free_bytes * 8 / 10) {
    num_rows /= 10;
  }
  BinaryRowsParams params;
  params.num_rows = num_rows;
  params.num_words = kNumWords;
  params.num_blocks = num_rows / kBinaryBlockCodes;
  INTARSIA_ASSIGN_OR_RETURN(DeviceBuffer blocks,
                            DeviceBuffer::Allocate(num_rows * kRowBytes, nullptr));
  INTARSIA_RETURN_IF_ERROR(RandomWeightsCuda(
      {.y = blocks.as<uint16_t>(), .size = num_rows * kRowBytes / 2, .deviation = 1.0F, .seed = 7},
      nullptr));
  params.planes[0] = blocks.as<uint64_t>();
  INTARSIA_ASSIGN_OR_RETURN(params.scales,
                            collection->Repeat(UniformFloats(0.95F, 1.05F, 1), num_rows));
  INTARSIA_ASSIGN_OR_RETURN(params.offsets,
                            collection->Repeat(UniformFloats(-0.1F, 0.1F, 2), num_rows));
  INTARSIA_ASSIGN_OR_RETURN(params.errors,
                            collection->Repeat(UniformFloats(0.9F, 1.1F, 3), num_rows));
  INTARSIA_ASSIGN_OR_RETURN(void* const codes, collection->Allocate(num_rows * kRowBytes));
  INTARSIA_ASSIGN_OR_RETURN(void* const bounds,
                            collection->Allocate(num_rows / kBinaryTileRows *
                                                 static_cast<int64_t>(sizeof(BinaryTileBounds))));
  params.codes = static_cast<uint32_t*>(codes);
  params.bounds = static_cast<BinaryTileBounds*>(bounds);
  DeviceTimer timer;
  for (int i = 0; i < 2; ++i) {  // once to warm up
    INTARSIA_RETURN_IF_ERROR(
        timer.Measure([&](Stream stream) { return BinaryRowsCuda(params, stream); },
                      &collection->seconds_to_make));
  }
  collection->rows = params.rows();
  return collection;
}

// Made once; never given back, because the driver may be gone when statics are destroyed.
const Collection& SharedCollection() {
  static const Collection* const collection = [] {
    auto made = MakeCollection();
    INTARSIA_CHECK(made.ok());
    return std::move(made)->release();
  }();
  return *collection;
}

// The first rows of the collection; none if it has fewer.
BinaryRows RowsOf(const benchmark::State& state) {
  BinaryRows rows = SharedCollection().rows;
  rows.num_rows = state.range(1) <= rows.num_rows ? state.range(1) : 0;
  return rows;
}

struct Results {
  DeviceBuffer outcomes;
  DeviceBuffer rows;
  DeviceBuffer limits;
  ProspectLists lists;

  static Result<Results> Make(int64_t num_queries) {
    Results results;
    INTARSIA_ASSIGN_OR_RETURN(
        results.outcomes,
        DeviceBuffer::Allocate(num_queries * static_cast<int64_t>(sizeof(ProspectOutcome)),
                               nullptr));
    INTARSIA_ASSIGN_OR_RETURN(results.rows,
                              DeviceBuffer::Allocate(num_queries * kCandidatesMax * 4, nullptr));
    INTARSIA_ASSIGN_OR_RETURN(results.limits,
                              DeviceBuffer::Allocate(num_queries * kCandidatesMax * 4, nullptr));
    results.lists = {num_queries,
                     kK,
                     kCandidatesMax,
                     results.outcomes.as<ProspectOutcome>(),
                     results.rows.as<int32_t>(),
                     results.limits.as<float>()};
    return results;
  }

  // Prospects a query, and 1 if one pass has found them all.
  Status Count(benchmark::State& state) const {
    std::vector<ProspectOutcome> all(static_cast<size_t>(lists.num_queries));
    INTARSIA_RETURN_IF_ERROR(CopyToHost(all.data(), lists.outcomes, outcomes.num_bytes(), nullptr));
    INTARSIA_RETURN_IF_ERROR(WaitFor(nullptr));
    double num_prospects = 0.0;
    int32_t is_complete = 1;
    for (const ProspectOutcome& one : all) {
      num_prospects += one.num_prospects;
      is_complete = std::min(is_complete, one.is_complete);
    }
    state.counters["prospects"] = num_prospects / static_cast<double>(all.size());
    state.counters["complete"] = is_complete;
    return Status::Ok();
  }
};

// Times `work` from a cold cache, the best of it apart.
template <typename Work>
Status TimeWork(benchmark::State& state, const Work& work) {
  DeviceTimer timer;
  double seconds = 0.0;
  double best = 1e9;
  for (int i = 0; i < 2; ++i) INTARSIA_RETURN_IF_ERROR(timer.Measure(work, &seconds));
  for (auto _ : state) {
    INTARSIA_RETURN_IF_ERROR(timer.Measure(work, &seconds));
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  state.counters["best_ms"] = best * 1e3;
  return Status::Ok();
}

void CountBytes(benchmark::State& state, int64_t num_bytes) {
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations() * num_bytes) * 1e-9, benchmark::Counter::kIsRate);
}

// A bit for one row in `period` on average.
std::vector<uint32_t> FilterPattern(int64_t period) {
  std::mt19937 random(static_cast<uint32_t>(period));
  std::vector<uint32_t> words(kPatternRows / kBinaryTileRows);
  for (uint32_t& word : words) {
    for (uint32_t bit = 0; bit < 32; ++bit) {
      if (random() % static_cast<uint32_t>(period) == 0) word |= uint32_t{1} << bit;
    }
  }
  return words;
}

Status ScanOneQuery(benchmark::State& state, int64_t filter_period) {
  BinaryScanCudaParams params;
  params.rows = RowsOf(state);
  if (params.rows.num_rows == 0) {
    return Status(StatusCode::kResourceExhausted, "the device has too little memory");
  }
  Collection own;
  std::mt19937_64 random(3);
  std::vector<uint64_t> query(4 * kNumWords);
  for (uint64_t& word : query) word = random();
  INTARSIA_ASSIGN_OR_RETURN(params.query_planes, own.Repeat(query, 4 * kNumWords));
  if (filter_period > 1) {
    INTARSIA_ASSIGN_OR_RETURN(params.filter,
                              own.Repeat(FilterPattern(filter_period), params.rows.num_tiles()));
  }
  INTARSIA_ASSIGN_OR_RETURN(const Results results, Results::Make(1));
  params.lists = results.lists;
  INTARSIA_ASSIGN_OR_RETURN(params.workspace, own.Allocate(ProspectWorkspaceBytes(params.lists)));
  params.half_step = kStep4Bits;
  params.error_bound = 0.15F;
  params.method = static_cast<BinaryScanMethod>(state.range(0));
  INTARSIA_RETURN_IF_ERROR(TimeWork(
      state, [&](Stream stream) { return BinaryScanCuda(params, ProspectPass::kFirst, stream); }));
  CountBytes(state, params.rows.num_rows / filter_period * kRowBytes);
  return results.Count(state);
}

Status ScanBatch(benchmark::State& state, int64_t filter_period) {
  BinaryBatchScanCudaParams params;
  const int64_t num_queries = state.range(2);
  params.method = static_cast<BinaryBatchMethod>(state.range(0));
  params.rows = RowsOf(state);
  if (params.rows.num_rows == 0) {
    return Status(StatusCode::kResourceExhausted, "the device has too little memory");
  }
  Collection own;
  std::mt19937 random(3);
  std::vector<int8_t> levels(static_cast<size_t>(num_queries * kNumWords * 64));
  for (int8_t& level : levels) {
    level = static_cast<int8_t>(static_cast<int>(random() % 255) - kBatchLevelMax);
  }
  INTARSIA_ASSIGN_OR_RETURN(params.queries, own.Repeat(levels, std::ssize(levels)));
  const std::vector<float> steps(kQueriesMax, kStep8Bits);
  const std::vector<float> bases(kQueriesMax, 0.0F);
  const std::vector<float> error_bounds(kQueriesMax, 0.15F);
  INTARSIA_ASSIGN_OR_RETURN(params.steps, own.Repeat(steps, num_queries));
  INTARSIA_ASSIGN_OR_RETURN(params.bases, own.Repeat(bases, num_queries));
  INTARSIA_ASSIGN_OR_RETURN(params.error_bounds, own.Repeat(error_bounds, num_queries));
  if (filter_period > 1) {
    INTARSIA_ASSIGN_OR_RETURN(params.filter,
                              own.Repeat(FilterPattern(filter_period), params.rows.num_tiles()));
  }
  INTARSIA_ASSIGN_OR_RETURN(const Results results, Results::Make(num_queries));
  params.lists = results.lists;
  INTARSIA_ASSIGN_OR_RETURN(params.workspace, own.Allocate(BinaryBatchScanWorkspaceBytes(params)));
  INTARSIA_RETURN_IF_ERROR(TimeWork(state, [&](Stream stream) {
    return BinaryBatchScanCuda(params, ProspectPass::kFirst, stream);
  }));
  const auto num_scans = static_cast<double>(state.iterations() * num_queries);
  state.counters["queries/s"] = benchmark::Counter(num_scans, benchmark::Counter::kIsRate);
  state.counters["TOPS"] = benchmark::Counter(
      num_scans * 2e-12 * static_cast<double>(params.rows.num_rows / filter_period * kNumWords) *
          64.0,
      benchmark::Counter::kIsRate);
  return results.Count(state);
}

void Report(benchmark::State& state, const Status& status) {
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
}

void BM_BinaryScanCuda_Query(benchmark::State& state) { Report(state, ScanOneQuery(state, 1)); }
void BM_BinaryScanCuda_QueryFilter10Percent(benchmark::State& state) {
  Report(state, ScanOneQuery(state, 10));
}
void BM_BinaryScanCuda_QueryFilter1Percent(benchmark::State& state) {
  Report(state, ScanOneQuery(state, 100));
}
void BM_BinaryBatchScanCuda_Queries(benchmark::State& state) { Report(state, ScanBatch(state, 1)); }
void BM_BinaryBatchScanCuda_QueriesFilter10Percent(benchmark::State& state) {
  Report(state, ScanBatch(state, 10));
}

Status CopyRows(benchmark::State& state) {
  const BinaryRows& rows = SharedCollection().rows;
  const int64_t num_bytes = rows.code_bytes() / 2;
  Collection own;
  INTARSIA_ASSIGN_OR_RETURN(void* const target, own.Allocate(num_bytes));
  INTARSIA_RETURN_IF_ERROR(TimeWork(
      state, [&](Stream stream) { return CopyOnDevice(target, rows.codes, num_bytes, stream); }));
  CountBytes(state, 2 * num_bytes);
  return Status::Ok();
}

void BM_BinaryScanCuda_CopyBeside(benchmark::State& state) { Report(state, CopyRows(state)); }

void BM_BinaryScanCuda_MakeRows(benchmark::State& state) {
  const Collection& collection = SharedCollection();
  for (auto _ : state) state.SetIterationTime(collection.seconds_to_make);
  CountBytes(state, 2 * collection.rows.code_bytes());
}

void QuerySizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_rows : {1'000'000, 10'000'000, 100'000'000}) {
    for (const int64_t method : {1, 2}) bench->Args({method, num_rows});
  }
  bench->ArgNames({"method", "rows"})->UseManualTime()->Iterations(10);
  bench->Unit(benchmark::kMillisecond);
}
void FilterSizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_rows : {10'000'000, 100'000'000}) {
    for (const int64_t method : {1, 2}) bench->Args({method, num_rows});
  }
  bench->ArgNames({"method", "rows"})->UseManualTime()->Iterations(10);
  bench->Unit(benchmark::kMillisecond);
}
void BatchSizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_rows : {1'000'000, 10'000'000, 100'000'000}) {
    for (const int64_t num_queries : {16, 32, 64, 128, 256}) {
      for (const int64_t method : {1, 2}) bench->Args({method, num_rows, num_queries});
    }
  }
  bench->ArgNames({"method", "rows", "queries"})->UseManualTime()->Iterations(5);
  bench->Unit(benchmark::kMillisecond);
}
void BatchFilterSizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t method : {1, 2}) bench->Args({method, 100'000'000, 64});
  bench->ArgNames({"method", "rows", "queries"})->UseManualTime()->Iterations(5);
  bench->Unit(benchmark::kMillisecond);
}

BENCHMARK(BM_BinaryScanCuda_CopyBeside)
    ->UseManualTime()
    ->Iterations(10)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_BinaryScanCuda_MakeRows)
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_BinaryScanCuda_Query)->Apply(QuerySizes);
BENCHMARK(BM_BinaryScanCuda_QueryFilter10Percent)->Apply(FilterSizes);
BENCHMARK(BM_BinaryScanCuda_QueryFilter1Percent)->Apply(FilterSizes);
BENCHMARK(BM_BinaryBatchScanCuda_Queries)->Apply(BatchSizes);
BENCHMARK(BM_BinaryBatchScanCuda_QueriesFilter10Percent)->Apply(BatchFilterSizes);

}  // namespace
}  // namespace intarsia::kernels
