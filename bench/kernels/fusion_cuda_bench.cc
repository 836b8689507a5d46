// The kernels of a fused prefill on a device, in the shape of Llama-3-8B: 8 kv heads of 128,
// chunks of 512 tokens, 15 % of them recomputed. PlaceKv and the copy beside it count the bytes of
// the payload and of the pages.
// Run with --benchmark_repetitions=5 or more, and quote the CV beside the median.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include "base/check.h"
#include "bench/kernels/device_timer.h"
#include "bench/kernels/run_timed.h"
#include "kernels/cuda_status.h"
#include "kernels/measure_shift.h"
#include "kernels/place_kv.h"
#include "kernels/propagation_weights.h"
#include "kernels/select_rows.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/place_kv_device_data.h"
#include "tests/kernels/propagation_cases.h"

namespace intarsia::kernels {
namespace {

constexpr int32_t kChunkTokens = 512;
constexpr int32_t kNumKvHeads = 8;
constexpr int32_t kHeadDim = 128;
constexpr int32_t kWidth = kNumKvHeads * kHeadDim;

int32_t RowsOf(const benchmark::State& state) {
  return kChunkTokens * static_cast<int32_t>(state.range(1)) / 100;
}

PlaceKvCase PlaceCaseOf(const benchmark::State& state, KvPayloadType type) {
  PlaceKvCase test_case = {.type = type, .num_kv_heads = kNumKvHeads};
  const auto num_chunks = static_cast<size_t>(state.range(0) / kChunkTokens);
  test_case.chunk_tokens.assign(num_chunks, kChunkTokens);
  const int32_t num_rows = RowsOf(state);
  test_case.chunk_deltas.assign(num_chunks, num_rows == 0 ? 0 : num_rows + 1);
  test_case.first_position = 42;
  return test_case;
}

// Bytes of payloads and pages.
int64_t PlacedBytes(const PlaceKvData& data) {
  int64_t num_bytes = 0;
  for (size_t i = 0; i < data.segments.size(); ++i) {
    num_bytes += static_cast<int64_t>(data.payloads[i].size());
    num_bytes += int64_t{data.segments[i].num_tokens} * kWidth * 2 * 2;
  }
  return num_bytes;
}

void RunPlaceKv(benchmark::State& state, KvPayloadType type) {
  const PlaceKvData data(PlaceCaseOf(state, type));
  const PlaceKvOnDevice device(data);
  PlaceKvParams params = device.Params();
  if (state.range(1) == 0) params.key_weights = nullptr;
  RunTimed<DeviceTimer>(state, PlacedBytes(data),
                        [&](Stream stream) { return PlaceKvCuda(params, stream); });
}

void BM_PlaceKvCuda_Bf16(benchmark::State& state) { RunPlaceKv(state, KvPayloadType::kBf16); }
void BM_PlaceKvCuda_Int8(benchmark::State& state) { RunPlaceKv(state, KvPayloadType::kInt8); }
void BM_PlaceKvCuda_Int4(benchmark::State& state) { RunPlaceKv(state, KvPayloadType::kInt4); }

void BM_PlaceKvCuda_CopyOfSameSize(benchmark::State& state) {
  const int64_t num_bytes = state.range(0) * kWidth * 2 * 2;
  const auto size = static_cast<size_t>(num_bytes);
  const DeviceArray<uint8_t> source(std::vector<uint8_t>(size, uint8_t{1}));
  const DeviceArray<uint8_t> target(std::vector<uint8_t>(size, uint8_t{2}));
  RunTimed<DeviceTimer>(state, 2 * num_bytes, [&](Stream stream) {
    return CudaStatus(
        cudaMemcpyAsync(target.data(), source.data(), size, cudaMemcpyDeviceToDevice, stream),
        "copy on device");
  });
}

void RunPropagationWeights(benchmark::State& state, PropagationOrder order) {
  PropagationCase test_case;
  const auto num_chunks = static_cast<size_t>(state.range(0) / kChunkTokens);
  test_case.chunk_tokens.assign(num_chunks, kChunkTokens);
  test_case.chunk_rows.assign(num_chunks, RowsOf(state));
  const PropagationData data(test_case);
  const auto num_weights = static_cast<size_t>(data.layout.num_weights);
  const DeviceArray<PropagationChunk> chunks(data.layout.chunks);
  const DeviceArray<PropagationTile> tiles(data.layout.tiles);
  const DeviceArray<int32_t> rows(data.rows);
  const DeviceArray<uint16_t> key_weights{std::vector<uint16_t>(num_weights)};
  const DeviceArray<uint16_t> value_weights{std::vector<uint16_t>(num_weights)};
  const DeviceArray<float> key_u{std::vector<float>(data.rows.size())};
  const DeviceArray<float> value_u{std::vector<float>(data.rows.size())};
  const DeviceArray<uint8_t> workspace(
      std::vector<uint8_t>(static_cast<size_t>(PropagationWorkspaceBytes(data.layout))));
  PropagationWeightsParams params = data.Params(order);
  params.chunks = chunks.data();
  params.tiles = tiles.data();
  params.rows = rows.data();
  params.key_weights = key_weights.data();
  params.value_weights = value_weights.data();
  params.key_u = key_u.data();
  params.value_u = value_u.data();
  params.workspace = reinterpret_cast<float*>(workspace.data());
  RunTimed<DeviceTimer>(state, 4 * data.layout.num_weights,
                        [&](Stream stream) { return PropagationWeightsCuda(params, stream); });
}

void BM_PropagationWeightsCuda_TwoSided(benchmark::State& state) {
  RunPropagationWeights(state, PropagationOrder::kTwoSided);
}
void BM_PropagationWeightsCuda_Causal(benchmark::State& state) {
  RunPropagationWeights(state, PropagationOrder::kCausal);
}

void BM_MeasureShiftCuda_Bf16(benchmark::State& state) {
  const PlaceKvData placed(PlaceCaseOf(state, KvPayloadType::kBf16));
  const PlaceKvOnDevice device(placed);
  PropagationCase test_case;
  test_case.chunk_tokens = placed.test_case.chunk_tokens;
  test_case.chunk_rows.assign(test_case.chunk_tokens.size(), RowsOf(state));
  const PropagationData data(test_case);
  std::vector<int32_t> pass(data.rows.size());
  std::iota(pass.begin(), pass.end(), 0);
  const auto num_rows = static_cast<int64_t>(data.rows.size());
  const auto num_chunks = static_cast<int64_t>(data.layout.chunks.size());
  const DeviceArray<PropagationChunk> chunks(data.layout.chunks);
  const DeviceArray<int32_t> rows(data.rows);
  const DeviceArray<int32_t> pass_rows(pass);
  const DeviceArray<uint16_t> computed(PlaceKvData::Narrow(RandomFloats(num_rows * 2 * kWidth, 3)));
  const DeviceArray<float> u(RandomFloats(num_rows, 4));
  const auto size = static_cast<size_t>((num_rows + num_chunks) * kWidth);
  const DeviceArray<uint16_t> key_deltas{std::vector<uint16_t>(size)};
  const DeviceArray<uint16_t> value_deltas{std::vector<uint16_t>(size)};
  const DeviceArray<uint8_t> workspace(
      std::vector<uint8_t>(static_cast<size_t>(MeasureShiftWorkspaceBytes(num_chunks, kWidth))));
  const PlaceKvParams place = device.Params();
  const MeasureShiftParams params = {.chunks = chunks.data(),
                                     .segments = place.segments,
                                     .payloads = place.payloads,
                                     .rows = rows.data(),
                                     .pass_rows = pass_rows.data(),
                                     .k = computed.data(),
                                     .v = computed.data() + kWidth,
                                     .k_stride = 2 * kWidth,
                                     .v_stride = 2 * kWidth,
                                     .key_u = u.data(),
                                     .value_u = u.data(),
                                     .key_deltas = key_deltas.data(),
                                     .value_deltas = value_deltas.data(),
                                     .workspace = reinterpret_cast<float*>(workspace.data()),
                                     .num_chunks = static_cast<int32_t>(num_chunks),
                                     .width = kWidth};
  RunTimed<DeviceTimer>(state, num_rows * kWidth * 2 * 6,
                        [&](Stream stream) { return MeasureShiftCuda(params, stream); });
}

void BM_SelectRowsCuda_Random(benchmark::State& state) {
  const int64_t num_positions = state.range(0);
  std::vector<int32_t> positions(static_cast<size_t>(num_positions));
  std::iota(positions.begin(), positions.end(), 0);
  const DeviceArray<float> scores(RandomFloats(num_positions, 9));
  const DeviceArray<int32_t> candidates(positions);
  const DeviceArray<int32_t> rows(positions);
  const SelectRowsParams params = {.scores = scores.data(),
                                   .candidates = candidates.data(),
                                   .rows = rows.data(),
                                   .num_candidates = static_cast<int32_t>(num_positions),
                                   .count = static_cast<int32_t>(num_positions * 15 / 100)};
  RunTimed<DeviceTimer>(state, num_positions * 8,
                        [&](Stream stream) { return SelectRowsCuda(params, stream); });
}

void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_tokens : {5'120, 32'768}) {
    for (const int64_t percent : {0, 5, 15, 30}) bench->Args({num_tokens, percent});
  }
  bench->ArgNames({"tokens", "percent"})->UseManualTime()->Iterations(20);
}
void SizesWithRows(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_tokens : {5'120, 32'768}) {
    for (const int64_t percent : {5, 15, 30}) bench->Args({num_tokens, percent});
  }
  bench->ArgNames({"tokens", "percent"})->UseManualTime()->Iterations(20);
}
void Tokens(benchmark::internal::Benchmark* bench) {
  bench->Arg(5'120)->Arg(32'768)->ArgName("tokens")->UseManualTime()->Iterations(20);
}

BENCHMARK(BM_PlaceKvCuda_Bf16)->Apply(Sizes);
BENCHMARK(BM_PlaceKvCuda_Int8)->Apply(Sizes);
BENCHMARK(BM_PlaceKvCuda_Int4)->Apply(Sizes);
BENCHMARK(BM_PlaceKvCuda_CopyOfSameSize)->Apply(Tokens);
BENCHMARK(BM_PropagationWeightsCuda_TwoSided)->Apply(SizesWithRows);
BENCHMARK(BM_PropagationWeightsCuda_Causal)->Apply(SizesWithRows);
BENCHMARK(BM_MeasureShiftCuda_Bf16)->Apply(SizesWithRows);
BENCHMARK(BM_SelectRowsCuda_Random)->Apply(Tokens);

}  // namespace
}  // namespace intarsia::kernels
