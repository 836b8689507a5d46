// gpu_prefill_bench: full prefill and decoding of an 8B model on a device, with random weights.
//
// The shape is Llama-3-8B's; weights are made on the device, so no model file is needed. Each case
// warms up twice, then runs `--repetitions` times; times are those of the device, by events, and
// the median counts, with the coefficient of variation (CV) beside it. Beside TFLOP/s stands the
// share of what one large product in bf16 reaches in this run, and beside a decoding step the share
// of the time that reading weights, keys and values takes at the bandwidth that a large copy
// reaches in this run. A program and not a Google Benchmark, because its cases share a model.
// tools/gpu_compare_transformers.py measures the same with transformers.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/end_to_end/cuda_options.h"
#include "bench/end_to_end/gpu_bench.h"
#include "bench/end_to_end/llama_shape.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/samples.h"
#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "kernels/random_weights.h"
#include "model/cuda_decoder.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::bench {
namespace {

using kernels::DeviceBuffer;
using kernels::DeviceEvent;
using model::ModelConfig;

constexpr int kNumWarmUps = 2;

struct Arguments {
  std::vector<int64_t> lengths = {1024, 2048, 5200, 8192, 16'384, 32'768, 65'536};
  std::vector<int64_t> batches = {1, 8, 32};
  int64_t decode_context = 5200;
  int64_t decode_steps = 64;
  int repetitions = 5;
  model::CudaTransformerOptions model;
};

struct Ceilings {
  double flops = 0.0;  // a second, of a product of 8,192 cubed
  double bytes = 0.0;  // a second, read and written by a copy
};

int64_t LayerParameters(const ModelConfig& config) {
  const int64_t attention =
      int64_t{config.hidden_size} * (2 * config.q_size() + 2 * config.kv_size());
  return attention + int64_t{3} * config.hidden_size * config.ffn_size;
}

// Of all rows' products and causal attention, and the head of one row.
double PrefillFlops(const ModelConfig& config, int64_t num_tokens) {
  const auto count = static_cast<double>(num_tokens);
  const double products = 2.0 * count * static_cast<double>(LayerParameters(config));
  const double attention = 2.0 * count * count * config.q_size();
  // Of the last layer queries, keys and values, and of one row all else.
  const double last_layer = 2.0 * count * static_cast<double>(config.hidden_size) *
                            static_cast<double>(config.q_size() + 2 * config.kv_size());
  return (config.num_layers - 1) * (products + attention) + last_layer +
         2.0 * config.vocab_size * static_cast<double>(config.hidden_size);
}

// What a decoding step must read: weights once, each request's keys and values.
double DecodeBytes(const model::CudaTransformer& model,
                   const model::CudaTransformerOptions& options, int64_t batch, int64_t context) {
  const ModelConfig& config = model.config();
  const bool is_fp8 = options.compute == model::CudaCompute::kFp8 && batch >= options.fp8_rows_min;
  const int64_t layers = config.num_layers * LayerParameters(config) * (is_fp8 ? 1 : 2);
  const int64_t head = 2 * int64_t{config.vocab_size} * config.hidden_size;
  const int64_t kv = 4 * int64_t{config.num_layers} * config.kv_size() * context * batch;
  return static_cast<double>(layers + head + kv);
}

class Timer {
 public:
  explicit Timer(kernels::Stream stream)
      : stream_(stream),
        begin_(Require(DeviceEvent::Create(kernels::EventTiming::kOn))),
        end_(Require(DeviceEvent::Create(kernels::EventTiming::kOn))) {}

  // Milliseconds on the device, `repetitions` times.
  std::vector<double> Measure(int repetitions, const std::function<void()>& enqueue) {
    std::vector<double> samples;
    for (int run = 0; run < kNumWarmUps + repetitions; ++run) {
      Require(begin_.Record(stream_));
      enqueue();
      Require(end_.Record(stream_));
      Require(end_.Wait());
      const float milliseconds = Require(end_.MillisecondsSince(begin_));
      if (run >= kNumWarmUps) samples.push_back(milliseconds);
    }
    return samples;
  }

 private:
  const kernels::Stream stream_;
  DeviceEvent begin_;
  DeviceEvent end_;
};

Ceilings MeasureCeilings(kernels::Stream stream, Timer* timer) {
  constexpr int64_t kSize = 8192;
  constexpr int64_t kBytes = kSize * kSize * 2;
  constexpr int64_t kCopyBytes = int64_t{2} << 30;
  const auto products = Require(kernels::DeviceMatrixProducts::Create());
  const DeviceBuffer x = Require(DeviceBuffer::Allocate(kBytes, stream));
  const DeviceBuffer weights = Require(DeviceBuffer::Allocate(kBytes, stream));
  const DeviceBuffer y = Require(DeviceBuffer::Allocate(kBytes, stream));
  const DeviceBuffer space =
      Require(DeviceBuffer::Allocate(kernels::DeviceMatrixProducts::kWorkspaceBytes, stream));
  for (const DeviceBuffer* matrix : {&x, &weights}) {
    Require(kernels::RandomWeightsCuda(
        {.y = matrix->as<uint16_t>(), .size = kSize * kSize, .seed = 1}, stream));
  }
  const double product_ms = MedianOf(timer->Measure(10, [&] {
    Require(products->MultiplyCuda({.x = x.as<uint16_t>(),
                                    .weights = weights.as<uint16_t>(),
                                    .y = y.data(),
                                    .num_rows = kSize,
                                    .num_inputs = kSize,
                                    .num_outputs = kSize,
                                    .workspace = space.data()},
                                   stream));
  }));
  const DeviceBuffer source = Require(DeviceBuffer::Allocate(kCopyBytes, stream));
  const DeviceBuffer target = Require(DeviceBuffer::Allocate(kCopyBytes, stream));
  Require(kernels::RandomWeightsCuda(
      {.y = source.as<uint16_t>(), .size = kCopyBytes / 2, .seed = 2}, stream));
  const double copy_ms = MedianOf(timer->Measure(10, [&] {
    Require(kernels::CopyOnDevice(target.data(), source.data(), kCopyBytes, stream));
  }));
  return {.flops = 2.0 * kSize * kSize * kSize / (product_ms * 1e-3),
          .bytes = 2.0 * kCopyBytes / (copy_ms * 1e-3)};
}

std::vector<int32_t> SomeTokens(int64_t count, int32_t vocab_size) {
  std::vector<int32_t> tokens;
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1'664'525U + 1'013'904'223U;
    tokens.push_back(static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(vocab_size)));
  }
  return tokens;
}

std::vector<int32_t> PositionsUpTo(int64_t count) {
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int32_t>(i));
  return positions;
}

void Prefill(model::CudaForward* forward, const ModelConfig& config, int64_t num_tokens,
             const model::DeviceKv& kv) {
  Require(forward->Begin(SomeTokens(num_tokens, config.vocab_size), PositionsUpTo(num_tokens), kv));
  Require(forward->RunLayers(0, 1));
  Require(forward->ComputeLogits(1));
}

struct Bench {
  Arguments arguments;
  kernels::Stream stream;
  const model::CudaTransformer& model;
  model::DeviceKvPool& pool;
  Ceilings ceilings;
  Timer* timer;

  void RunPrefills(model::CudaForward* forward) const {
    std::printf("\n%-8s %10s %6s %9s %9s\n", "prefill", "ms", "CV", "TFLOP/s", "of peak");
    for (const int64_t length : arguments.lengths) {
      const auto kv = Require(pool.Allocate(length, stream));
      const std::vector<double> samples = timer->Measure(
          arguments.repetitions, [&] { Prefill(forward, model.config(), length, *kv); });
      const double median = MedianOf(samples);
      const double flops = PrefillFlops(model.config(), length) / (median * 1e-3);
      std::printf("%-8lld %10.2f %5.1f%% %9.1f %8.1f%%\n", static_cast<long long>(length), median,
                  100.0 * VariationOf(samples), flops * 1e-12, 100.0 * flops / ceilings.flops);
    }
  }

  void RunDecodes(model::CudaForward* forward) const {
    std::printf("\n%-8s %10s %6s %9s %9s %9s\n", "decode", "ms", "CV", "tokens/s", "GB/s",
                "of floor");
    for (const int64_t batch : arguments.batches) {
      RunDecode(forward, batch, std::to_string(batch), {});
      // As in an answer, whose citations are made of what the last third of the layers attend to.
      if (batch == 1) RunDecode(forward, batch, "1 cited", 2 * (model.config().num_layers / 3));
    }
  }

  // The last warm-up step records the graph; each sample is the mean of `decode_steps` steps.
  void RunDecode(model::CudaForward* forward, int64_t batch, const std::string& name,
                 std::optional<int32_t> first_observed_layer) const {
    const int64_t context = arguments.decode_context;
    const int64_t capacity =
        context + (kNumWarmUps + arguments.repetitions) * arguments.decode_steps;
    std::vector<std::unique_ptr<model::DeviceKv>> kvs;
    std::vector<model::CudaDecodeRow> rows;
    for (int64_t i = 0; i < batch; ++i) {
      kvs.push_back(Require(pool.Allocate(capacity, stream)));
      Prefill(forward, model.config(), context, *kvs.back());
      rows.push_back({.kv = kvs.back().get(),
                      .token = static_cast<int32_t>(i),
                      .position = static_cast<int32_t>(context)});
    }
    const auto decoder =
        Require(model::CudaDecoder::Create(model, pool,
                                           {.batch_max = static_cast<int32_t>(batch),
                                            .num_tokens_max = capacity,
                                            .first_observed_layer = first_observed_layer},
                                           stream));
    Require(decoder->Begin(rows));
    std::vector<double> samples = timer->Measure(arguments.repetitions, [&] {
      for (int64_t step = 0; step < arguments.decode_steps; ++step) Require(decoder->Step());
    });
    for (double& sample : samples) sample /= static_cast<double>(arguments.decode_steps);
    const double median = MedianOf(samples);
    const double bytes = DecodeBytes(model, arguments.model, batch, (context + capacity) / 2);
    std::printf("%-8s %10.3f %5.1f%% %9.0f %9.0f %8.1f%%\n", name.c_str(), median,
                100.0 * VariationOf(samples), static_cast<double>(batch) * 1e3 / median,
                bytes / median * 1e-6, 100.0 * bytes / ceilings.bytes / (median * 1e-3));
  }
};

void PrintMemory(const char* when) {
  const kernels::DeviceInfo info = Require(kernels::QueryDevice(0));
  std::printf("memory %-16s %8.2f GB of the pool, %8.2f GB in use on the device\n", when,
              static_cast<double>(info.pool_bytes) * 1e-9,
              static_cast<double>(info.memory_bytes - info.free_bytes) * 1e-9);
}

void Run(const Arguments& arguments) {
  Require(kernels::UseDevice(0));
  const kernels::DeviceInfo info = Require(kernels::QueryDevice(0));
  std::printf("%s, compute capability %d, %d multiprocessors, %.1f GB\n", info.name.c_str(),
              info.capability, info.num_multiprocessors,
              static_cast<double>(info.memory_bytes) * 1e-9);
  const kernels::DeviceStream stream =
      Require(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  Timer timer(stream.get());
  const Ceilings ceilings = MeasureCeilings(stream.get(), &timer);
  std::printf("one product of 8192^3: %.1f TFLOP/s; one copy of 2 GiB: %.0f GB/s\n",
              ceilings.flops * 1e-12, ceilings.bytes * 1e-9);
  const auto model =
      Require(model::CudaTransformer::CreateRandom(Llama8B(), 0, /*seed=*/1, arguments.model));
  std::printf("%s; %.2f GB of weights\n", ToString(arguments.model).c_str(),
              static_cast<double>(model->weight_bytes()) * 1e-9);
  const int64_t longest =
      std::max(arguments.decode_context, *std::ranges::max_element(arguments.lengths));
  const int64_t decoded =
      arguments.decode_context + (kNumWarmUps + arguments.repetitions) * arguments.decode_steps;
  const int64_t largest_batch = *std::ranges::max_element(arguments.batches);
  const int64_t num_pages =
      std::max(kernels::NumPagesFor(longest), largest_batch * kernels::NumPagesFor(decoded));
  const int64_t page_bytes = 4 * kernels::PageElements(8, 128) * Llama8B().num_layers;
  const auto pool = Require(model::DeviceKvPool::Create(
      model->config(), {.budget_bytes = num_pages * (page_bytes + 4096)}, stream.get()));
  const auto forward =
      Require(model::CudaForward::Create(*model, {.num_rows_max = longest}, stream.get()));
  PrintMemory("at the start");
  const Bench bench{arguments, stream.get(), *model, *pool, ceilings, &timer};
  bench.RunPrefills(forward.get());
  bench.RunDecodes(forward.get());
  PrintMemory("at the end");
}

}  // namespace

int RunGpuPrefillBench(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Full prefill and decoding of an 8B model with random weights on a device");
  app.add_option("--lengths", arguments.lengths, "prompt lengths in tokens")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--batches", arguments.batches, "requests that are decoded at once")
      ->delimiter(',')
      ->check(CLI::Range(1, 32));
  app.add_option("--decode-context", arguments.decode_context, "tokens before the first decoded")
      ->check(CLI::Range(1, 1 << 19));
  app.add_option("--decode-steps", arguments.decode_steps, "steps of a measurement")
      ->check(CLI::Range(1, 4096));
  app.add_option("--repetitions", arguments.repetitions, "measurements of each case")
      ->check(CLI::Range(1, 1000));
  AddCudaOptions(&app, &arguments.model);
  CLI11_PARSE(app, argc, argv);
  try {
    Run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_prefill_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace intarsia::bench
