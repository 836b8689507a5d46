// MakeQualityDevice of a program that is built with CUDA.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "base/first_error.h"
#include "bench/end_to_end/quality_machine.h"
#include "engine/fusion/device_fused_prefill.h"
#include "kernels/device.h"
#include "kernels/half_float.h"
#include "kernels/kv_codec.h"
#include "kernels/paged_kv.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::bench {
namespace {

// A header and a chunk; longer ones are refused by the pass.
constexpr int64_t kRowsMax = 4096;
// Prompts that are held at the same time, each of at most so many tokens, beside a chunk.
constexpr int64_t kPromptsMax = 2;
constexpr int64_t kPromptTokensMax = 16'384;

using Payloads = std::vector<std::vector<uint8_t>>;  // one a layer

// A payload of bf16 in another form.
Status Encode(std::span<const uint8_t> payload, int64_t num_tokens, int64_t width,
              engine::KvPayloadType form, std::vector<uint8_t>* encoded) {
  std::vector<float> values(static_cast<size_t>(2 * num_tokens * width));
  const auto* const bits = reinterpret_cast<const uint16_t*>(payload.data());
  for (size_t i = 0; i < values.size(); ++i) values[i] = kernels::Bf16ToFloat(bits[i]);
  const int64_t num_bytes = kernels::KvPayloadBytes(form, num_tokens, width);
  encoded->resize(static_cast<size_t>(num_bytes));
  return kernels::EncodeKv({.type = form,
                            .k = values.data(),
                            .v = values.data() + num_tokens * width,
                            .num_tokens = num_tokens,
                            .width = width,
                            .payload = encoded->data(),
                            .payload_bytes = num_bytes});
}

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
    INTARSIA_ASSIGN_OR_RETURN(kv_, pages_->Allocate(kRowsMax, stream_.get()));
    INTARSIA_ASSIGN_OR_RETURN(
        forward_, model::CudaForward::Create(
                      *transformer_,
                      {.num_rows_max = kRowsMax, .num_logit_rows_max = options_.num_new_tokens_max},
                      stream_.get()));
    INTARSIA_ASSIGN_OR_RETURN(
        fusion_, engine::DeviceFusion::Create(*transformer_, pages_.get(), options_.pool,
                                              engine::DeviceFusionOptions()));
    INTARSIA_ASSIGN_OR_RETURN(Payloads layers, Compute(header_tokens_, 0));
    header_ = std::make_unique<engine::MemoryKv>(engine::KvPayloadType::kBf16,
                                                 std::ssize(header_tokens_), std::move(layers));
    return Status::Ok();
  }

  Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) override {
    std::vector<int32_t> all = header_tokens_;
    all.insert(all.end(), tokens.begin(), tokens.end());
    INTARSIA_ASSIGN_OR_RETURN(Payloads layers, Compute(all, std::ssize(header_tokens_)));
    const engine::KvPayloadType type = form.value_or(engine::KvPayloadType::kBf16);
    if (type != engine::KvPayloadType::kBf16) {
      FirstError error(options_.pool->num_threads());
      options_.pool->ParallelFor(std::ssize(layers), [&](int64_t layer, int worker) {
        std::vector<uint8_t>& payload = layers[static_cast<size_t>(layer)];
        std::vector<uint8_t> encoded;
        error.Set(worker, Encode(payload, std::ssize(tokens), transformer_->config().kv_size(),
                                 type, &encoded));
        payload = std::move(encoded);
      });
      INTARSIA_RETURN_IF_ERROR(error.Get());
    }
    return std::make_unique<engine::MemoryKv>(type, std::ssize(tokens), std::move(layers));
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
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      INTARSIA_RETURN_IF_ERROR(forward_->RunLayer(layer));
    }
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
  // bf16 payloads of all tokens but the first `num_dropped`.
  Result<Payloads> Compute(std::span<const int32_t> tokens, int64_t num_dropped) {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    INTARSIA_RETURN_IF_ERROR(forward_->Begin(tokens, positions, *kv_));
    Payloads layers;
    for (int32_t layer = 0; layer < transformer_->config().num_layers; ++layer) {
      INTARSIA_RETURN_IF_ERROR(forward_->ComputeQkv(layer));
      INTARSIA_ASSIGN_OR_RETURN(std::vector<uint8_t> payload, ReadRows(num_dropped));
      layers.push_back(std::move(payload));
      INTARSIA_RETURN_IF_ERROR(forward_->PlaceKv(layer));
      INTARSIA_RETURN_IF_ERROR(forward_->Attend(layer));
      INTARSIA_RETURN_IF_ERROR(forward_->RunFfn(layer));
    }
    return layers;
  }

  // K, then V, of the rows of the layer at hand.
  Result<std::vector<uint8_t>> ReadRows(int64_t num_dropped) {
    const model::CudaRows rows = forward_->rows();
    const int64_t width = transformer_->config().kv_size();
    const int64_t num_rows = rows.num_rows - num_dropped;
    const int64_t num_read = (num_rows - 1) * rows.kv_stride + width;
    std::vector<uint16_t> read(static_cast<size_t>(2 * num_read));
    for (const int half : {0, 1}) {
      const uint16_t* const source = half == 0 ? rows.k : rows.v;
      INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(read.data() + half * num_read,
                                                   source + num_dropped * rows.kv_stride,
                                                   num_read * 2, stream_.get()));
    }
    INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream_.get()));
    std::vector<uint8_t> payload(static_cast<size_t>(2 * num_rows * width * 2));
    auto* target = reinterpret_cast<uint16_t*>(payload.data());
    for (const int half : {0, 1}) {
      const uint16_t* source = read.data() + half * num_read;
      for (int64_t row = 0; row < num_rows; ++row, source += rows.kv_stride) {
        target = std::copy_n(source, width, target);
      }
    }
    return payload;
  }

  const std::unique_ptr<model::CudaTransformer> transformer_;
  const kernels::DeviceStream stream_;  // before the memory, which is given back on it
  const std::vector<int32_t> header_tokens_;
  const QualityMachineOptions options_;
  std::unique_ptr<model::DeviceKvPool> pages_;
  std::unique_ptr<model::DeviceKv> kv_;
  std::unique_ptr<model::CudaForward> forward_;
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
