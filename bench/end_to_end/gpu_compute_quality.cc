// gpu_compute_quality: what products in fp8 change in the next token, against bf16, on a device.
//
// As compute_quality, with the model on a device: windows of real text are prefilled once with each
// form of products, every pass in that form. The model is a file, so that its weights and
// activations are those of a real one.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/thread_pool.h"
#include "bench/end_to_end/require.h"
#include "bench/end_to_end/window_comparison.h"
#include "kernels/device.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace intarsia::bench {
namespace {

// A model on the device with what a pass over a window needs.
class DeviceModel {
 public:
  DeviceModel(const model::GgufFile& file, const model::CudaTransformerOptions& options,
              const WindowOptions& windows, int32_t device, ThreadPool* pool)
      : transformer_(Require(model::CudaTransformer::Load(file, device, pool, options))),
        stream_(Require(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal))),
        pages_(Require(model::DeviceKvPool::Create(
            transformer_->config(),
            {.budget_bytes = BudgetBytes(transformer_->config(), windows.window_tokens)},
            stream_.get()))),
        kv_(Require(pages_->Allocate(windows.window_tokens, stream_.get()))),
        forward_(Require(model::CudaForward::Create(
            *transformer_,
            {.num_rows_max = windows.window_tokens, .num_logit_rows_max = windows.num_rows},
            stream_.get()))) {}

  // Logits [num_rows, vocab_size] of the last rows of a window.
  std::vector<float> Logits(std::span<const int32_t> tokens, int64_t num_rows) {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    Require(forward_->Begin(tokens, positions, *kv_));
    Require(forward_->RunLayers(0, num_rows));
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
      logits.insert(logits.end(), begin, begin + transformer_->config().vocab_size);
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

void Compare(const WindowOptions& options, int32_t device) {
  Require(kernels::UseDevice(device));
  ThreadPool pool(0);
  const auto file = Require(model::GgufFile::Open(options.model, FileSystem::Local()));
  const auto tokenizer = Require(model::LoadTokenizer(*file));
  const SampleTokens sample = Require(ReadWindows(options, *tokenizer));
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
  std::vector<ComparedWay> ways;
  PrintWindows(options, sample, " on " + Require(kernels::QueryDevice(device)).name);
  for (const Form& form : forms) {
    models.push_back(std::make_unique<DeviceModel>(*file, form.options, options, device, &pool));
    ways.push_back(
        {NextTokenQuality(form.name), std::bind_front(&DeviceModel::Logits, models.back().get())});
    std::printf("%s: %.1f MB of weights\n", form.name,
                static_cast<double>(models.back()->weight_bytes()) * 1e-6);
  }
  CompareWindows(options, sample, "bf16", &ways);
}

int Main(int argc, char** argv) {
  WindowOptions options = {.num_windows = 16};
  int32_t device = 0;
  CLI::App app("What products in fp8 change in the next token, against bf16, on a device.");
  AddWindowOptions(&app, &options);
  app.add_option("--device", device, "index of the device")->check(CLI::Range(0, 1023));
  CLI11_PARSE(app, argc, argv);
  Compare(options, device);
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
