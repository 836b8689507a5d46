// MakeQualityDevice of a program that is built with CUDA.
#include <numeric>
#include <utility>
#include <vector>

#include "bench/end_to_end/quality_machine.h"
#include "engine/fusion/device_fused_prefill.h"
#include "engine/fusion/device_kv_builder.h"
#include "kernels/device.h"
#include "kernels/paged_kv.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::bench {
namespace {

// A header and a chunk; for longer ones there are no pages.
constexpr int64_t kRowsMax = 4096;
// Prompts that are held at the same time, each of at most so many tokens, beside a chunk.
constexpr int64_t kPromptsMax = 2;
constexpr int64_t kPromptTokensMax = 16'384;

class DeviceMachine : public QualityMachine {
 public:
  DeviceMachine(std::unique_ptr<model::CudaTransformer> transformer, kernels::DeviceStream stream,
                std::span<const int32_t> header, const QualityMachineOptions& options)
      : transformer_(std::move(transformer)),
        stream_(std::move(stream)),
        header_tokens_(header.begin(), header.end()),
        options_(options) {}

  Status Prepare() {
    const model::ModelConfig& config = transformer_->config();
    const int64_t page_bytes =
        4 * kernels::PageElements(config.num_kv_heads, config.head_dim) * config.num_layers;
    const int64_t num_pages =
        kPromptsMax * kernels::NumPagesFor(kPromptTokensMax) + kernels::NumPagesFor(kRowsMax) + 1;
    INTARSIA_ASSIGN_OR_RETURN(
        pages_, model::DeviceKvPool::Create(config,
                                            {.budget_bytes = num_pages * (page_bytes + 4'096),
                                             .num_requests_max = kPromptsMax + 1},
                                            stream_.get()));
    INTARSIA_ASSIGN_OR_RETURN(
        forward_, model::CudaForward::Create(*transformer_,
                                             {.num_rows_max = options_.num_new_tokens_max,
                                              .num_logit_rows_max = options_.num_new_tokens_max},
                                             stream_.get()));
    INTARSIA_ASSIGN_OR_RETURN(
        builder_, engine::DeviceKvBuilder::Create(*transformer_, pages_.get(), options_.pool));
    INTARSIA_ASSIGN_OR_RETURN(
        fusion_, engine::DeviceFusion::Create(*transformer_, pages_.get(), options_.pool,
                                              engine::DeviceFusionOptions()));
    INTARSIA_ASSIGN_OR_RETURN(header_, Compute({}, header_tokens_, engine::KvPayloadType::kBf16));
    return Status::Ok();
  }

  Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) override {
    return Compute(header_tokens_, tokens, form.value_or(engine::KvPayloadType::kBf16));
  }
  const engine::KvSource& header() const override { return *header_; }

  Result<std::unique_ptr<QualityRun>> Run(const engine::Prompt& prompt,
                                          const engine::FusionOptions& options) override;

  // The logits [tokens, vocab_size] of tokens from `position` on.
  Result<std::vector<float>> Continue(const model::DeviceKv& kv, std::span<const int32_t> tokens,
                                      int64_t position) {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
    INTARSIA_RETURN_IF_ERROR(forward_->Begin(tokens, positions, kv));
    const model::ModelConfig& config = transformer_->config();
    INTARSIA_RETURN_IF_ERROR(forward_->RunLayers(0, std::ssize(tokens)));
    INTARSIA_RETURN_IF_ERROR(forward_->ComputeLogits(std::ssize(tokens)));
    const int64_t stride = forward_->logit_stride();
    std::vector<float> padded(static_cast<size_t>(std::ssize(tokens) * stride));
    INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(padded.data(), forward_->logits(),
                                                 std::ssize(padded) * 4, stream_.get()));
    INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream_.get()));
    std::vector<float> logits;
    for (auto row = padded.begin(); row != padded.end(); row += stride) {
      logits.insert(logits.end(), row, row + config.vocab_size);
    }
    return logits;
  }

 private:
  Result<std::unique_ptr<engine::MemoryKv>> Compute(std::span<const int32_t> header,
                                                    std::span<const int32_t> tokens,
                                                    engine::KvPayloadType type) {
    INTARSIA_ASSIGN_OR_RETURN(auto caches,
                              builder_->Build({.header = header, .runs = {tokens}, .type = type}));
    return std::move(caches.front());
  }

  const std::unique_ptr<model::CudaTransformer> transformer_;
  const kernels::DeviceStream stream_;  // before the memory, which is given back on it
  const std::vector<int32_t> header_tokens_;
  const QualityMachineOptions options_;
  std::unique_ptr<model::DeviceKvPool> pages_;
  std::unique_ptr<model::CudaForward> forward_;  // of what follows a prompt
  std::unique_ptr<engine::DeviceKvBuilder> builder_;
  std::unique_ptr<engine::DeviceFusion> fusion_;
  std::unique_ptr<engine::MemoryKv> header_;
};

class DeviceRun : public QualityRun {
 public:
  DeviceRun(DeviceMachine* machine, engine::DeviceFusedContext context)
      : machine_(*machine), kv_(std::move(context.kv)) {
    logits = std::move(context.logits);
    usage = context.usage;
    timing = context.timing;
  }

  Result<std::vector<float>> Continue(std::span<const int32_t> tokens, int64_t position) override {
    return machine_.Continue(*kv_, tokens, position);
  }

 private:
  DeviceMachine& machine_;
  const std::unique_ptr<model::DeviceKv> kv_;
};

Result<std::unique_ptr<QualityRun>> DeviceMachine::Run(const engine::Prompt& prompt,
                                                       const engine::FusionOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(
      engine::DeviceFusedContext context,
      fusion_->Prefill(prompt,
                       {.fusion = options, .num_new_tokens_max = options_.num_new_tokens_max}));
  return std::unique_ptr<QualityRun>(new DeviceRun(this, std::move(context)));
}

}  // namespace

Result<std::unique_ptr<QualityMachine>> MakeQualityDevice(const model::GgufFile& file,
                                                          std::span<const int32_t> header,
                                                          const QualityMachineOptions& options) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(options.device));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<model::CudaTransformer> transformer,
                            model::CudaTransformer::Load(file, options.device, options.pool));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  auto machine =
      std::make_unique<DeviceMachine>(std::move(transformer), std::move(stream), header, options);
  INTARSIA_RETURN_IF_ERROR(machine->Prepare());
  return std::unique_ptr<QualityMachine>(std::move(machine));
}

}  // namespace intarsia::bench
