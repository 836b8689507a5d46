// Matrix products of an 8B model on a device, by the number of rows: TFLOP/s where arithmetic
// bounds them, GB/s of weights where memory does. Weights rotate among as many copies as exceed the
// second-level cache, as the layers of a model do.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "kernels/random_weights.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kWeightBytesMin = int64_t{256} << 20;
constexpr int kProductsPerTiming = 20;

struct Buffers {
  DeviceBuffer x;
  DeviceBuffer weights;  // [num_copies, num_outputs, num_inputs]
  DeviceBuffer y;
  DeviceBuffer workspace;
  int64_t num_copies = 0;
};

Result<Buffers> MakeBuffers(int64_t num_rows, int64_t num_inputs, int64_t num_outputs,
                            Stream stream) {
  Buffers buffers;
  const int64_t weight_bytes = num_inputs * num_outputs * 2;
  buffers.num_copies = std::max<int64_t>(2, kWeightBytesMin / weight_bytes);
  INTARSIA_ASSIGN_OR_RETURN(buffers.x, DeviceBuffer::Allocate(num_rows * num_inputs * 2, stream));
  INTARSIA_ASSIGN_OR_RETURN(buffers.weights,
                            DeviceBuffer::Allocate(buffers.num_copies * weight_bytes, stream));
  INTARSIA_ASSIGN_OR_RETURN(buffers.y, DeviceBuffer::Allocate(num_rows * num_outputs * 2, stream));
  INTARSIA_ASSIGN_OR_RETURN(buffers.workspace,
                            DeviceBuffer::Allocate(DeviceMatrixProducts::kWorkspaceBytes, stream));
  INTARSIA_RETURN_IF_ERROR(RandomWeightsCuda(
      {.y = buffers.x.as<uint16_t>(), .size = num_rows * num_inputs, .seed = 1}, stream));
  INTARSIA_RETURN_IF_ERROR(RandomWeightsCuda({.y = buffers.weights.as<uint16_t>(),
                                              .size = buffers.num_copies * weight_bytes / 2,
                                              .deviation = 0.02F,
                                              .seed = 2},
                                             stream));
  return buffers;
}

Status Measure(benchmark::State& state) {
  const int64_t num_inputs = state.range(0);
  const int64_t num_outputs = state.range(1);
  const int64_t num_rows = state.range(2);
  INTARSIA_RETURN_IF_ERROR(UseDevice(0));
  INTARSIA_ASSIGN_OR_RETURN(const DeviceStream stream,
                            DeviceStream::Create(StreamPriority::kNormal));
  INTARSIA_ASSIGN_OR_RETURN(const Buffers buffers,
                            MakeBuffers(num_rows, num_inputs, num_outputs, stream.get()));
  INTARSIA_ASSIGN_OR_RETURN(const auto products, DeviceMatrixProducts::Create());
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent begin, DeviceEvent::Create(EventTiming::kOn));
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent end, DeviceEvent::Create(EventTiming::kOn));
  int64_t copy = 0;
  const auto multiply = [&] {
    copy = (copy + 1) % buffers.num_copies;
    return products->MultiplyCuda(
        {.x = buffers.x.as<uint16_t>(),
         .weights = buffers.weights.as<uint16_t>() + copy * num_inputs * num_outputs,
         .y = buffers.y.data(),
         .num_rows = num_rows,
         .num_inputs = num_inputs,
         .num_outputs = num_outputs,
         .workspace = buffers.workspace.data()},
        stream.get());
  };
  for (int i = 0; i < 3; ++i) INTARSIA_RETURN_IF_ERROR(multiply());
  for (auto _ : state) {
    INTARSIA_RETURN_IF_ERROR(begin.Record(stream.get()));
    for (int i = 0; i < kProductsPerTiming; ++i) INTARSIA_RETURN_IF_ERROR(multiply());
    INTARSIA_RETURN_IF_ERROR(end.Record(stream.get()));
    INTARSIA_RETURN_IF_ERROR(end.Wait());
    INTARSIA_ASSIGN_OR_RETURN(const float milliseconds, end.MillisecondsSince(begin));
    state.SetIterationTime(milliseconds * 1e-3);
  }
  const double num_products = static_cast<double>(state.iterations()) * kProductsPerTiming;
  const auto flops = 2.0 * static_cast<double>(num_rows * num_inputs * num_outputs);
  const auto bytes = 2.0 * static_cast<double>(num_inputs * num_outputs);
  state.counters["TFLOP/s"] =
      benchmark::Counter(num_products * flops * 1e-12, benchmark::Counter::kIsRate);
  state.counters["weights_GB/s"] =
      benchmark::Counter(num_products * bytes * 1e-9, benchmark::Counter::kIsRate);
  return Status::Ok();
}

void BM_DeviceMatrix_Product(benchmark::State& state) {
  const Status status = Measure(state);
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
}

// Queries, keys and values; output; gate and up; down; head.
void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_rows : {1, 8, 32, 128, 256, 512, 780, 1024, 2048, 5200, 8192}) {
    for (const auto& [num_inputs, num_outputs] : {std::pair<int64_t, int64_t>{4096, 6144},
                                                  {4096, 4096},
                                                  {4096, 28'672},
                                                  {14'336, 4096},
                                                  {4096, 128'256}}) {
      if (num_outputs < 100'000 || num_rows <= 32) bench->Args({num_inputs, num_outputs, num_rows});
    }
  }
}

BENCHMARK(BM_DeviceMatrix_Product)
    ->Apply(Sizes)
    ->ArgNames({"inputs", "outputs", "rows"})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace intarsia::kernels
