// gpu_compute_quality: what products in fp8 change in the next token, against bf16, on a device.
//
// As compute_quality, with the model on a device: windows of real text are prefilled once with each
// form of products, every pass in that form. The model is a file, so that its weights and
// activations are those of a real one.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/thread_pool.h"
#include "bench/end_to_end/next_token_quality.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/sample_tokens.h"
#include "kernels/device.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace intarsia::bench {
namespace {

struct Arguments {
  std::string model = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  std::string text = "docs";
  int64_t num_windows = 16;
  int64_t window_tokens = 512;
  int64_t num_rows = 128;
  int32_t device = 0;
};

// A model on the device with what a pass over a window needs.
class DeviceModel {
 public:
  DeviceModel(const model::GgufFile& file, const model::CudaTransformerOptions& options,
              const Arguments& arguments, ThreadPool* pool)
      : transformer_(Require(model::CudaTransformer::Load(file, arguments.device, pool, options))),
        stream_(Require(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal))),
        pages_(Require(model::DeviceKvPool::Create(
            transformer_->config(),
            {.budget_bytes = BudgetBytes(transformer_->config(), arguments.window_tokens)},
            stream_.get()))),
        kv_(Require(pages_->Allocate(arguments.window_tokens, stream_.get()))),
        forward_(Require(model::CudaForward::Create(
            *transformer_,
            {.num_rows_max = arguments.window_tokens, .num_logit_rows_max = arguments.num_rows},
            stream_.get()))) {}

  // Logits [num_rows, vocab_size] of the last rows of a window.
  std::vector<float> Logits(std::span<const int32_t> tokens, int64_t num_rows) {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    Require(forward_->Begin(tokens, positions, *kv_));
    const model::ModelConfig& config = transformer_->config();
    for (int32_t layer = 0; layer < config.num_layers; ++layer) Require(forward_->RunLayer(layer));
    Require(forward_->ComputeLogits(num_rows));
    const int64_t stride = forward_->logit_stride();
    std::vector<float> padded(static_cast<size_t>(num_rows * stride));
    Require(kernels::CopyToHost(padded.data(), forward_->logits(),
                                static_cast<int64_t>(padded.size() * sizeof(float)),
                                stream_.get()));
    Require(kernels::WaitFor(stream_.get()));
    std::vector<float> logits;
    for (int64_t row = 0; row < num_rows; ++row) {
      const auto begin = padded.begin() + row * stride;
      logits.insert(logits.end(), begin, begin + config.vocab_size);
    }
    return logits;
  }

  int64_t weight_bytes() const { return transformer_->weight_bytes(); }

 private:
  static int64_t BudgetBytes(const model::ModelConfig& config, int64_t num_tokens) {
    const int64_t page_bytes =
        4 * kernels::PageElements(config.num_kv_heads, config.head_dim) * config.num_layers;
    return (kernels::NumPagesFor(num_tokens) + 1) * (page_bytes + 4'096);
  }

  const std::unique_ptr<model::CudaTransformer> transformer_;
  const kernels::DeviceStream stream_;
  const std::unique_ptr<model::DeviceKvPool> pages_;
  const std::unique_ptr<model::DeviceKv> kv_;
  const std::unique_ptr<model::CudaForward> forward_;
};

struct Form {
  const char* name;
  model::CudaTransformerOptions options;
};

void Compare(const Arguments& arguments) {
  Require(kernels::UseDevice(arguments.device));
  ThreadPool pool(0);
  const auto file = Require(model::GgufFile::Open(arguments.model, FileSystem::Local()));
  const auto tokenizer = Require(model::LoadTokenizer(*file));
  const SampleTokens sample = Require(ReadSampleTokens(
      arguments.text, arguments.num_windows * arguments.window_tokens + 1, *tokenizer));
  const std::vector<Form> forms = {
      {"bf16", {}},
      {"fp8", {.compute = model::CudaCompute::kFp8, .fp8_rows_min = 0}},
      {"fp8 but for q, k and v",
       {.compute = model::CudaCompute::kFp8,
        .fp8_rows_min = 0,
        .fp8_products = model::Fp8Products::kAllButQkv}},
      {"fp8, fast sums",
       {.compute = model::CudaCompute::kFp8,
        .fp8_rows_min = 0,
        .fp8_sums = kernels::Fp8Sums::kFast}}};
  std::vector<std::unique_ptr<DeviceModel>> models;
  std::vector<NextTokenQuality> qualities;
  std::printf("%s on %s; %s; %lld windows of %lld tokens, the last %lld of each\n",
              arguments.model.substr(arguments.model.rfind('/') + 1).c_str(),
              Require(kernels::QueryDevice(arguments.device)).name.c_str(), sample.source.c_str(),
              static_cast<long long>(arguments.num_windows),
              static_cast<long long>(arguments.window_tokens),
              static_cast<long long>(arguments.num_rows));
  for (const Form& form : forms) {
    models.push_back(std::make_unique<DeviceModel>(*file, form.options, arguments, &pool));
    qualities.emplace_back(form.name);
    std::printf("%s: %.1f MB of weights\n", form.name,
                static_cast<double>(models.back()->weight_bytes()) * 1e-6);
  }
  for (int64_t window = 0; window < arguments.num_windows; ++window) {
    const int64_t begin = window * arguments.window_tokens;
    const auto piece = [&](int64_t first, int64_t count) {
      return std::span(sample.ids).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    };
    const int64_t next = begin + arguments.window_tokens - arguments.num_rows + 1;
    std::vector<float> reference;
    for (size_t i = 0; i < models.size(); ++i) {
      const std::vector<float> logits =
          models[i]->Logits(piece(begin, arguments.window_tokens), arguments.num_rows);
      if (reference.empty()) reference = logits;
      qualities[i].AddAll(reference, logits, piece(next, arguments.num_rows));
    }
  }
  std::printf("\n");
  NextTokenQuality::ReportHeading("bf16");
  for (const NextTokenQuality& quality : qualities) quality.Report();
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("What products in fp8 change in the next token, against bf16, on a device.");
  app.add_option("--model", arguments.model, "GGUF file")->check(CLI::ExistingFile);
  app.add_option("--text", arguments.text, "folder whose Markdown files are the text");
  app.add_option("--windows", arguments.num_windows, "pieces of text")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--tokens", arguments.window_tokens, "tokens of a piece")
      ->check(CLI::Range(2, 1 << 16));
  app.add_option("--rows", arguments.num_rows, "tokens of a piece that are compared")
      ->check(CLI::Range(1, 1 << 12));
  app.add_option("--device", arguments.device, "index of the device")->check(CLI::Range(0, 1023));
  CLI11_PARSE(app, argc, argv);
  if (arguments.num_rows > arguments.window_tokens) {
    std::fprintf(stderr, "gpu_compute_quality: --rows must not be above --tokens\n");
    return 2;
  }
  Compare(arguments);
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) {
  try {
    return intarsia::bench::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_compute_quality: %s\n", error.what());
    return 1;
  }
}
