// Matrix products of an 8B model on a device, by the number of rows and in bf16 or e4m3: TFLOP/s
// where arithmetic bounds them, GB/s of weights where memory does. Weights rotate among as many
// copies as exceed the second-level cache, as the layers of a model do. Beside products in e4m3
// stands what quantising their rows takes where no other kernel does it.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "kernels/quantize_rows.h"
#include "kernels/random_weights.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kWeightBytesMin = int64_t{256} << 20;
constexpr int kProductsPerTiming = 20;

// How a product is computed.
enum class Form : int64_t { kBf16 = 0, kFp8 = 1, kFp8FastSums = 2, kFp8ScalesBehind = 3 };

constexpr const char* kFormNames[] = {"bf16", "e4m3", "e4m3, fast sums", "e4m3, scales behind"};

struct Buffers {
  DeviceBuffer x;
  DeviceBuffer weights;  // [num_copies, num_outputs, num_inputs]
  DeviceBuffer y;
  DeviceBuffer workspace;
  int64_t num_copies = 0;
  // Of e4m3 only.
  DeviceBuffer x_codes;
  DeviceBuffer x_scales;
  DeviceBuffer weight_codes;
  DeviceBuffer weight_scales;
};

// Quantises `x` [num_rows, dim].
Status Quantize(const DeviceBuffer& x, int64_t num_rows, int64_t dim, DeviceBuffer* codes,
                DeviceBuffer* scales, Stream stream) {
  INTARSIA_ASSIGN_OR_RETURN(*codes, DeviceBuffer::Allocate(num_rows * dim, stream));
  INTARSIA_ASSIGN_OR_RETURN(*scales, DeviceBuffer::Allocate(num_rows * 4, stream));
  return QuantizeRowsCuda({.x = x.as<uint16_t>(),
                           .y = {codes->as<uint8_t>(), scales->as<float>()},
                           .num_rows = num_rows,
                           .dim = dim},
                          stream);
}

Result<Buffers> MakeBuffers(int64_t num_rows, int64_t num_inputs, int64_t num_outputs, Form form,
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
  if (form == Form::kBf16) return buffers;
  INTARSIA_RETURN_IF_ERROR(
      Quantize(buffers.x, num_rows, num_inputs, &buffers.x_codes, &buffers.x_scales, stream));
  INTARSIA_RETURN_IF_ERROR(Quantize(buffers.weights, buffers.num_copies * num_outputs, num_inputs,
                                    &buffers.weight_codes, &buffers.weight_scales, stream));
  return buffers;
}

// The product with copy `copy` of the weights.
DeviceMatMulParams ParamsOf(const Buffers& buffers, int64_t copy, const benchmark::State& state) {
  const int64_t num_inputs = state.range(0);
  const int64_t num_outputs = state.range(1);
  const auto form = static_cast<Form>(state.range(3));
  DeviceMatMulParams params{.y = buffers.y.data(),
                            .num_rows = state.range(2),
                            .num_inputs = num_inputs,
                            .num_outputs = num_outputs,
                            .workspace = buffers.workspace.data()};
  if (form == Form::kBf16) {
    params.x = buffers.x.as<uint16_t>();
    params.weights = buffers.weights.as<uint16_t>() + copy * num_inputs * num_outputs;
    return params;
  }
  params.x_fp8 = {buffers.x_codes.as<uint8_t>(), buffers.x_scales.as<float>()};
  params.weights_fp8 = {buffers.weight_codes.as<uint8_t>() + copy * num_inputs * num_outputs,
                        buffers.weight_scales.as<float>() + copy * num_outputs};
  params.fp8_sums = form == Form::kFp8FastSums ? Fp8Sums::kFast : Fp8Sums::kF32;
  return params;
}

Status Measure(benchmark::State& state) {
  const int64_t num_inputs = state.range(0);
  const int64_t num_outputs = state.range(1);
  const int64_t num_rows = state.range(2);
  const auto form = static_cast<Form>(state.range(3));
  state.SetLabel(kFormNames[state.range(3)]);
  INTARSIA_RETURN_IF_ERROR(UseDevice(0));
  INTARSIA_ASSIGN_OR_RETURN(const DeviceStream stream,
                            DeviceStream::Create(StreamPriority::kNormal));
  INTARSIA_ASSIGN_OR_RETURN(const Buffers buffers,
                            MakeBuffers(num_rows, num_inputs, num_outputs, form, stream.get()));
  const auto scaling = form == Form::kFp8ScalesBehind ? Fp8Scaling::kBehind : Fp8Scaling::kInside;
  INTARSIA_ASSIGN_OR_RETURN(const auto products,
                            DeviceMatrixProducts::Create({.fp8_scaling = scaling}));
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent begin, DeviceEvent::Create(EventTiming::kOn));
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent end, DeviceEvent::Create(EventTiming::kOn));
  int64_t copy = 0;
  const auto multiply = [&] {
    copy = (copy + 1) % buffers.num_copies;
    return products->MultiplyCuda(ParamsOf(buffers, copy, state), stream.get());
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
  const double weight_bytes = form == Form::kBf16 ? 2.0 : 1.0;
  const double bytes = weight_bytes * static_cast<double>(num_inputs * num_outputs);
  state.counters["TFLOP/s"] =
      benchmark::Counter(num_products * flops * 1e-12, benchmark::Counter::kIsRate);
  state.counters["weights_GB/s"] =
      benchmark::Counter(num_products * bytes * 1e-9, benchmark::Counter::kIsRate);
  return Status::Ok();
}

// Bytes a second of QuantizeRows: rows in bf16 read, codes written.
Status MeasureQuantize(benchmark::State& state) {
  const int64_t dim = state.range(0);
  const int64_t num_rows = state.range(1);
  INTARSIA_RETURN_IF_ERROR(UseDevice(0));
  INTARSIA_ASSIGN_OR_RETURN(const DeviceStream stream,
                            DeviceStream::Create(StreamPriority::kNormal));
  INTARSIA_ASSIGN_OR_RETURN(const DeviceBuffer x,
                            DeviceBuffer::Allocate(num_rows * dim * 2, stream.get()));
  INTARSIA_RETURN_IF_ERROR(
      RandomWeightsCuda({.y = x.as<uint16_t>(), .size = num_rows * dim, .seed = 1}, stream.get()));
  DeviceBuffer codes;
  DeviceBuffer scales;
  INTARSIA_RETURN_IF_ERROR(Quantize(x, num_rows, dim, &codes, &scales, stream.get()));
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent begin, DeviceEvent::Create(EventTiming::kOn));
  INTARSIA_ASSIGN_OR_RETURN(DeviceEvent end, DeviceEvent::Create(EventTiming::kOn));
  for (auto _ : state) {
    INTARSIA_RETURN_IF_ERROR(begin.Record(stream.get()));
    for (int i = 0; i < kProductsPerTiming; ++i) {
      INTARSIA_RETURN_IF_ERROR(QuantizeRowsCuda({.x = x.as<uint16_t>(),
                                                 .y = {codes.as<uint8_t>(), scales.as<float>()},
                                                 .num_rows = num_rows,
                                                 .dim = dim},
                                                stream.get()));
    }
    INTARSIA_RETURN_IF_ERROR(end.Record(stream.get()));
    INTARSIA_RETURN_IF_ERROR(end.Wait());
    INTARSIA_ASSIGN_OR_RETURN(const float milliseconds, end.MillisecondsSince(begin));
    state.SetIterationTime(milliseconds * 1e-3);
  }
  state.SetBytesProcessed(state.iterations() * kProductsPerTiming * 3 * num_rows * dim);
  return Status::Ok();
}

void BM_DeviceMatrix_QuantizeRows(benchmark::State& state) {
  const Status status = MeasureQuantize(state);
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
}

void BM_DeviceMatrix_Product(benchmark::State& state) {
  const Status status = Measure(state);
  if (!status.ok()) state.SkipWithError(status.ToString().c_str());
}

// Queries, keys and values; output; gate and up; down; head.
void Sizes(benchmark::internal::Benchmark* bench) {
  for (const int64_t num_rows :
       {1, 8, 16, 32, 64, 128, 192, 256, 320, 512, 780, 832, 1024, 2048, 5200, 8192}) {
    for (const auto& [num_inputs, num_outputs] : {std::pair<int64_t, int64_t>{4096, 6144},
                                                  {4096, 4096},
                                                  {4096, 28'672},
                                                  {14'336, 4096},
                                                  {4096, 128'256}}) {
      const auto add = [&](Form form) {
        bench->Args({num_inputs, num_outputs, num_rows, static_cast<int64_t>(form)});
      };
      const bool is_head = num_outputs > 100'000;
      if (!is_head || num_rows <= 32) add(Form::kBf16);
      if (is_head) continue;
      add(Form::kFp8);
      add(Form::kFp8FastSums);
      if (num_rows == 832) add(Form::kFp8ScalesBehind);
    }
  }
}

BENCHMARK(BM_DeviceMatrix_Product)
    ->Apply(Sizes)
    ->ArgNames({"inputs", "outputs", "rows", "form"})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

BENCHMARK(BM_DeviceMatrix_QuantizeRows)
    ->ArgsProduct({{4096, 14'336}, {832, 5200}})
    ->ArgNames({"dim", "rows"})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace intarsia::kernels
