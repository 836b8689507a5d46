// gpu_fused_bench: time to the first token of fused prefills of an 8B model on a device.
//
// The shape is Llama-3-8B's with random weights, and caches are random too, so no file is needed.
// A prompt is a header of 42 tokens, chunks of 512 and a question; every case runs `--repetitions`
// times after two warm-ups, and medians count. Caches lie in pinned memory, or on the device
// already; "early" ranks by the first quarter of the layers, and "kept" computes the evenly spaced
// rows with the question, and not again. Full prefill is the same prompt
// without caches in the same run. Times are those of the device, but for the first, which is the
// host's from the call to the logits. Last comes how long the caches of chunks take to compute, by
// the host's clock, encoding included. A program and not a Google Benchmark, because its cases
// share a model.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "bench/end_to_end/cuda_options.h"
#include "bench/end_to_end/gpu_bench.h"
#include "bench/end_to_end/llama_shape.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/samples.h"
#include "engine/fusion/device_fused_prefill.h"
#include "engine/fusion/device_kv_builder.h"
#include "kernels/device.h"
#include "kernels/kv_codec.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::bench {
namespace {

using engine::DeviceFusedContext;
using engine::KvPayloadType;

constexpr int kNumWarmUps = 2;
constexpr int64_t kHeaderTokens = 42;
constexpr int64_t kChunkTokens = 512;
constexpr int64_t kChunksOfPass = 7;  // with their headers, what the engine computes at once

enum class Place { kPinned, kDevice };

struct Mode {
  const char* name;
  const char* selector;
  Place place;
  double question_depth;
  engine::ProbePass probes = engine::ProbePass::kWithRows;
};
constexpr Mode kModes[] = {
    {"attention", "attention", Place::kPinned, 1.0},
    {"early", "attention", Place::kPinned, 0.25},
    {"kept", "attention", Place::kPinned, 1.0, engine::ProbePass::kWithQuestionOnly},
    {"kept-on-device", "attention", Place::kDevice, 1.0, engine::ProbePass::kWithQuestionOnly},
    {"stride", "stride", Place::kPinned, 1.0},
    {"attention-on-device", "attention", Place::kDevice, 1.0},
    {"early-on-device", "attention", Place::kDevice, 0.25},
    {"stride-on-device", "stride", Place::kDevice, 1.0}};

std::vector<std::string> ModeNames() {
  std::vector<std::string> names;
  for (const Mode& mode : kModes) names.emplace_back(mode.name);
  return names;
}

struct Arguments {
  std::vector<int64_t> contexts = {5'200, 32'768};
  std::vector<double> ratios = {0.0, 0.05, 0.15, 0.30, 1.0};
  int64_t question_tokens = 64;
  std::vector<std::string> modes = ModeNames();
  KvPayloadType kv_type = KvPayloadType::kBf16;
  int repetitions = 5;
  double probe_share = 0.03;
  model::CudaTransformerOptions model;
};

std::vector<int32_t> Tokens(int64_t count, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(
        static_cast<int32_t>((static_cast<uint64_t>(i) * 7'919 + seed * 104'729) % 128'000));
  }
  return tokens;
}

// A cache of random numbers between 1/2 and 1, of either sign, at rest as `type`. A quantised one
// has the same numbers in every layer, because encoding takes long.
class RandomKv : public engine::KvSource {
 public:
  RandomKv(const model::ModelConfig& config, KvPayloadType type, int64_t num_tokens, uint64_t seed)
      : type_(type),
        num_tokens_(num_tokens),
        layer_bytes_(kernels::KvPayloadBytes(type, num_tokens, config.kv_size())),
        pinned_(Require(kernels::PinnedBuffer::Allocate(layer_bytes_ * config.num_layers))),
        state_(seed * 0x9e3779b97f4a7c15U + 1) {
    if (type == KvPayloadType::kBf16) {
      auto* const words = pinned_.as<uint64_t>();
      for (int64_t i = 0; i < pinned_.num_bytes() / 8; ++i) {
        words[i] = (NextBits() & 0x807f807f807f807fU) | 0x3f003f003f003f00U;
      }
      return;
    }
    std::vector<float> numbers(static_cast<size_t>(2 * num_tokens * config.kv_size()));
    for (float& number : numbers) {
      const float size = 0.5F + static_cast<float>(NextBits() % 1024) / 2048.0F;
      number = NextBits() % 2 == 0 ? size : -size;
    }
    Require(kernels::EncodeKv({.type = type,
                               .k = numbers.data(),
                               .v = numbers.data() + num_tokens * config.kv_size(),
                               .num_tokens = num_tokens,
                               .width = config.kv_size(),
                               .payload = pinned_.as<uint8_t>(),
                               .payload_bytes = layer_bytes_}));
    for (int32_t layer = 1; layer < config.num_layers; ++layer) {
      std::memcpy(pinned_.as<uint8_t>() + layer * layer_bytes_, pinned_.data(),
                  static_cast<size_t>(layer_bytes_));
    }
  }

  void SetPlace(Place place, kernels::Stream stream) {
    if (place == Place::kDevice && device_.num_bytes() == 0) {
      device_ = Require(kernels::DeviceBuffer::Allocate(pinned_.num_bytes(), stream));
      Require(kernels::CopyToDevice(device_.data(), pinned_.data(), pinned_.num_bytes(), stream));
      Require(kernels::WaitFor(stream));
    }
    place_ = place;
  }

  KvPayloadType type() const override { return type_; }
  int64_t num_tokens() const override { return num_tokens_; }
  Status ReadLayer(int32_t, std::span<uint8_t>) const override {
    return Status(StatusCode::kInternal, "a resident cache is never read");
  }
  const uint8_t* PinnedLayer(int32_t layer) const override {
    return place_ == Place::kPinned ? pinned_.as<uint8_t>() + layer * layer_bytes_ : nullptr;
  }
  const uint8_t* DeviceLayer(int32_t layer) const override {
    return place_ == Place::kDevice ? device_.as<uint8_t>() + layer * layer_bytes_ : nullptr;
  }

 private:
  uint64_t NextBits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

  const KvPayloadType type_;
  const int64_t num_tokens_;
  const int64_t layer_bytes_;
  const kernels::PinnedBuffer pinned_;
  uint64_t state_;
  kernels::DeviceBuffer device_;
  Place place_ = Place::kPinned;
};

// A prompt of `num_tokens` tokens with the caches of all but the question.
class Scene {
 public:
  Scene(const model::ModelConfig& config, KvPayloadType type, int64_t num_tokens,
        int64_t question_tokens) {
    int64_t left = num_tokens - question_tokens;
    for (int64_t size = kHeaderTokens; left > 0; left -= size, size = kChunkTokens) {
      size = std::min(size, left);
      const auto seed = static_cast<uint64_t>(caches_.size());
      caches_.push_back(std::make_unique<RandomKv>(config, type, size, seed));
      parts_.push_back({.tokens = Tokens(size, seed), .cached = caches_.back().get()});
      num_bytes_ += kernels::KvPayloadBytes(type, size, config.kv_size()) * config.num_layers;
    }
    question_ = Tokens(question_tokens, 1'000);
  }

  engine::Prompt Cached(Place place, kernels::Stream stream) const {
    for (const auto& cache : caches_) cache->SetPlace(place, stream);
    return Require(engine::Prompt::Create(parts_.front(), std::span(parts_).subspan(1), question_));
  }
  engine::Prompt Uncached() const {
    std::vector<engine::PromptPart> parts = parts_;
    for (engine::PromptPart& part : parts) part.cached = nullptr;
    return Require(engine::Prompt::Create(parts.front(), std::span(parts).subspan(1), question_));
  }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  std::vector<std::unique_ptr<RandomKv>> caches_;
  std::vector<engine::PromptPart> parts_;
  std::vector<int32_t> question_;
  int64_t num_bytes_ = 0;
};

// Medians of repeated prefills.
struct Figures {
  double total_ms = 0.0;
  double variation = 0.0;
  engine::FusionTiming timing;
};

Figures Measure(engine::DeviceFusion* fusion, const engine::Prompt& prompt,
                const engine::DeviceFusionRequest& request, int repetitions) {
  std::vector<double> total;
  std::vector<double> load;
  std::vector<double> wait;
  std::vector<double> question;
  std::vector<double> solve;
  std::vector<double> rows;
  for (int run = 0; run < kNumWarmUps + repetitions; ++run) {
    const DeviceFusedContext context = Require(fusion->Prefill(prompt, request));
    if (run < kNumWarmUps) continue;
    total.push_back(context.timing.total_ms);
    load.push_back(context.timing.load_ms);
    wait.push_back(context.timing.wait_ms);
    question.push_back(context.timing.question_ms);
    solve.push_back(context.timing.solve_ms);
    rows.push_back(context.timing.rows_ms);
  }
  return {.total_ms = MedianOf(total),
          .variation = VariationOf(total),
          .timing = {.load_ms = MedianOf(load),
                     .wait_ms = MedianOf(wait),
                     .question_ms = MedianOf(question),
                     .solve_ms = MedianOf(solve),
                     .rows_ms = MedianOf(rows)}};
}

void RunContext(const Arguments& arguments, int64_t context, engine::DeviceFusion* fusion) {
  const Scene scene(Llama8B(), arguments.kv_type, context, arguments.question_tokens);
  const double full_ms =
      Measure(fusion, scene.Uncached(), {.fusion = {.selector = "full"}}, arguments.repetitions)
          .total_ms;
  std::printf("\n%lld tokens, %.0f MB of caches; full prefill %.1f ms\n",
              static_cast<long long>(context), static_cast<double>(scene.num_bytes()) * 1e-6,
              full_ms);
  std::printf("%-22s %5s %9s %5s %7s %8s %8s %8s %9s %8s %7s\n", "mode", "ratio", "first ms",
              "CV %", "x full", "load ms", "GB/s", "hidden %", "question", "solve", "rows");
  for (const Mode& mode : kModes) {
    if (std::ranges::count(arguments.modes, mode.name) == 0) continue;
    const engine::Prompt prompt = scene.Cached(mode.place, fusion->stream());
    for (const double ratio : arguments.ratios) {
      const Figures figures = Measure(fusion, prompt,
                                      {.fusion = {.selector = mode.selector,
                                                  .ratio = ratio,
                                                  .probes = mode.probes,
                                                  .probe_share = arguments.probe_share,
                                                  .question_depth = mode.question_depth}},
                                      arguments.repetitions);
      const engine::FusionTiming& timing = figures.timing;
      const bool is_loading = timing.load_ms > 0.0;
      std::printf("%-22s %5.2f %9.2f %5.1f %7.2f %8.2f %8.1f %8.1f %9.2f %8.3f %7.2f\n", mode.name,
                  ratio, figures.total_ms, 100.0 * figures.variation, full_ms / figures.total_ms,
                  timing.load_ms,
                  is_loading ? static_cast<double>(scene.num_bytes()) * 1e-6 / timing.load_ms : 0.0,
                  is_loading ? 100.0 * (1.0 - timing.wait_ms / timing.load_ms) : 100.0,
                  timing.question_ms, timing.solve_ms, timing.rows_ms);
    }
  }
}

// Caches of chunks behind the header, one and several in a pass.
void RunCaches(const Arguments& arguments, const model::CudaTransformer& model,
               model::DeviceKvPool* pages) {
  ThreadPool threads;
  const auto builder = Require(engine::DeviceKvBuilder::Create(model, pages, &threads));
  std::printf("\ncaches of chunks of %lld tokens, %d threads of the host\n%-6s %7s %9s %5s %9s\n",
              static_cast<long long>(kChunkTokens), threads.num_threads(), "form", "chunks", "ms",
              "CV %", "tokens/s");
  const std::vector<int32_t> header = Tokens(kHeaderTokens, 0);
  std::vector<std::vector<int32_t>> chunks;
  for (int64_t i = 0; i < kChunksOfPass; ++i) {
    chunks.push_back(Tokens(kChunkTokens, static_cast<uint64_t>(i) + 1));
  }
  for (const auto& [name, type] :
       {std::pair("bf16", KvPayloadType::kBf16), std::pair("int8", KvPayloadType::kInt8)}) {
    for (const int64_t count : {int64_t{1}, kChunksOfPass}) {
      engine::KvRuns runs = {.header = header, .runs = {}, .type = type};
      runs.runs.assign(chunks.begin(), chunks.begin() + count);
      std::vector<double> samples;
      for (int run = 0; run < kNumWarmUps + arguments.repetitions; ++run) {
        const Stopwatch stopwatch;
        Require(builder->Build(runs));
        if (run >= kNumWarmUps) samples.push_back(stopwatch.milliseconds());
      }
      const double milliseconds = MedianOf(samples);
      std::printf("%-6s %7lld %9.1f %5.1f %9.0f\n", name, static_cast<long long>(count),
                  milliseconds, 100.0 * VariationOf(samples),
                  1e3 * static_cast<double>(count * kChunkTokens) / milliseconds);
    }
  }
}

void Run(const Arguments& arguments) {
  Require(kernels::UseDevice(0));
  const kernels::DeviceInfo info = Require(kernels::QueryDevice(0));
  std::printf("%s, %.1f GB\n", info.name.c_str(), static_cast<double>(info.memory_bytes) * 1e-9);
  const auto model =
      Require(model::CudaTransformer::CreateRandom(Llama8B(), 0, /*seed=*/1, arguments.model));
  std::printf("%s; %.2f GB of weights\n", ToString(arguments.model).c_str(),
              static_cast<double>(model->weight_bytes()) * 1e-9);
  const kernels::DeviceStream stream =
      Require(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  const int64_t num_pages =
      std::max(kernels::NumPagesFor(*std::ranges::max_element(arguments.contexts)),
               kChunksOfPass * kernels::NumPagesFor(kHeaderTokens + kChunkTokens)) +
      1;
  const int64_t page_bytes = 4 * kernels::PageElements(8, 128) * Llama8B().num_layers;
  const auto pages = Require(model::DeviceKvPool::Create(
      model->config(), {.budget_bytes = num_pages * (page_bytes + 4'096)}, stream.get()));
  Require(kernels::WaitFor(stream.get()));
  ThreadPool threads(2);
  const auto fusion = Require(engine::DeviceFusion::Create(*model, pages.get(), &threads, {}));
  for (const int64_t context : arguments.contexts) RunContext(arguments, context, fusion.get());
  RunCaches(arguments, *model, pages.get());
}

}  // namespace

int RunGpuFusedBench(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Time to the first token of fused prefills of an 8B model on a device");
  app.add_option("--contexts", arguments.contexts, "prompt lengths in tokens")
      ->delimiter(',')
      ->check(CLI::Range(1'024, 1 << 20));
  app.add_option("--ratios", arguments.ratios, "recomputed shares")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--question-tokens", arguments.question_tokens, "tokens of the question")
      ->check(CLI::Range(1, 512));
  app.add_option("--modes", arguments.modes, "what chooses rows, and where caches lie")
      ->delimiter(',')
      ->check(CLI::IsMember(ModeNames()));
  const std::map<std::string, KvPayloadType> kv_types = {{"bf16", KvPayloadType::kBf16},
                                                         {"int8", KvPayloadType::kInt8},
                                                         {"int4", KvPayloadType::kInt4}};
  app.add_option("--kv-type", arguments.kv_type, "caches at rest: bf16, int8 or int4")
      ->transform(CLI::CheckedTransformer(kv_types));
  app.add_option("--probe-share", arguments.probe_share, "evenly spaced rows of attention")
      ->check(CLI::Range(0.0, 0.5));
  app.add_option("--repetitions", arguments.repetitions, "measurements of each case")
      ->check(CLI::Range(1, 1'000));
  AddCudaOptions(&app, &arguments.model);
  CLI11_PARSE(app, argc, argv);
  try {
    Run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_fused_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace intarsia::bench
