#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/cancellable_lock.h"
#include "base/memory_source.h"
#include "engine/fusion/buffer_source.h"
#include "engine/fusion/device_backend.h"
#include "engine/fusion/device_caches.h"
#include "engine/fusion/device_decoder.h"
#include "engine/fusion/device_fused_prefill.h"
#include "engine/fusion/device_kv_builder.h"
#include "kernels/device.h"
#include "kernels/paged_kv.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::engine {
namespace {

// Prompts that the memory for keys and values holds when no limit was set.
constexpr int64_t kNumPrompts = 2;
// The share of free memory that it takes then at most.
constexpr int64_t kFreeShare = 4;
constexpr int32_t kRequestsMax = 16;

// Memory comes from the device in pieces of this size, or of the whole budget if that is less.
constexpr int64_t kCacheSlabBytes = int64_t{64} << 20;

// Memory of a device, for caches.
struct AllocateOnDevice {
  int32_t device = 0;
  kernels::DeviceStream stream;

  Result<kernels::DeviceBuffer> operator()(int64_t num_bytes) {
    INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(device));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceBuffer buffer,
                              kernels::DeviceBuffer::Allocate(num_bytes, stream.get()));
    // Other streams will use it.
    INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream.get()));
    return buffer;
  }
};

// The budget of the pages, which holds one of them at least.
Result<int64_t> KvBytesFor(const model::ModelConfig& config, const DeviceModelOptions& options) {
  const int64_t page_bytes = 2 * config.num_layers *
                                 kernels::PageElements(config.num_kv_heads, config.head_dim) *
                                 static_cast<int64_t>(sizeof(uint16_t)) +
                             kRequestsMax * static_cast<int64_t>(sizeof(int32_t));
  int64_t kv_bytes = options.kv_bytes_max;
  INTARSIA_ASSIGN_OR_RETURN(const kernels::DeviceInfo info, kernels::QueryDevice(options.index));
  if (kv_bytes > info.memory_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  "the memory for keys and values is more than the device has: bytes=" +
                      std::to_string(kv_bytes) + " max=" + std::to_string(info.memory_bytes));
  }
  if (kv_bytes == 0) {
    kv_bytes = std::min(kNumPrompts * kernels::NumPagesFor(config.context_length) * page_bytes,
                        info.free_bytes / kFreeShare);
  }
  if (kv_bytes >= page_bytes) return kv_bytes;
  return Status(StatusCode::kResourceExhausted, "the memory for keys and values is too small for " +
                                                    std::to_string(kernels::kPageTokens) +
                                                    " tokens: bytes=" + std::to_string(kv_bytes) +
                                                    " want=" + std::to_string(page_bytes));
}

}  // namespace

// What a backend and its runs share.
class DeviceBackend::State {
 public:
  static Result<std::shared_ptr<State>> Create(const model::GgufFile& file,
                                               const DeviceModelOptions& options) {
    INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(options.index));
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                              kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
    auto state = std::make_shared<State>(options.index, std::move(stream));
    state->threads_ = options.threads;
    model::CudaTransformerOptions model;
    model.compute = options.compute;
    INTARSIA_ASSIGN_OR_RETURN(
        state->transformer_,
        model::CudaTransformer::Load(file, options.index, options.threads, model));
    INTARSIA_ASSIGN_OR_RETURN(const int64_t kv_bytes,
                              KvBytesFor(state->transformer_->config(), options));
    INTARSIA_ASSIGN_OR_RETURN(
        state->pages_,
        model::DeviceKvPool::Create(state->transformer_->config(),
                                    {.budget_bytes = kv_bytes, .num_requests_max = kRequestsMax},
                                    state->stream_.get()));
    INTARSIA_ASSIGN_OR_RETURN(state->fusion_,
                              DeviceFusion::Create(*state->transformer_, state->pages_.get(),
                                                   options.threads, DeviceFusionOptions()));
    const int64_t slab_bytes =
        std::clamp(options.cache_bytes_max, int64_t{1} << 20, kCacheSlabBytes);
    INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream caches_stream,
                              kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
    state->caches_ = std::make_unique<DeviceCaches>(
        std::make_shared<SlabMemory>(
            std::make_unique<BufferSource<AllocateOnDevice>>(
                AllocateOnDevice{.device = options.index, .stream = std::move(caches_stream)}),
            slab_bytes, options.cache_bytes_max),
        options.cache_bytes_max);
    return state;
  }

  State(int32_t index, kernels::DeviceStream stream) : stream_(index, std::move(stream)) {}

  // Errors: those of DeviceFusion::Prefill; kCancelled while it waits for its turn.
  Result<DeviceFusedContext> Prefill(const Prompt& prompt, const DeviceFusionRequest& request) {
    INTARSIA_ASSIGN_OR_RETURN(const auto turn, LockUnlessCancelled(&turn_, request.cancel));
    DeviceCaches::Lease lease(caches_.get(), prompt, transformer_->config());
    Result<DeviceFusedContext> context = fusion_->Prefill(lease.prompt(), request);
    if (context.ok()) {
      lease.Keep(context->lost_segments);
    } else {
      // What was enqueued may still read the caches. An error of it is that of the device.
      kernels::WaitFor(fusion_->stream()).IgnoreError();
    }
    return context;
  }

  // Errors: those of DeviceKvBuilder::Build; kCancelled while it waits for its turn.
  Result<std::vector<std::unique_ptr<MemoryKv>>> BuildCaches(const KvRuns& runs) {
    INTARSIA_ASSIGN_OR_RETURN(const auto turn, LockUnlessCancelled(&build_turn_, runs.cancel));
    if (builder_ == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(builder_,
                                DeviceKvBuilder::Create(*transformer_, pages_.get(), threads_));
    }
    return builder_->Build(runs);
  }

  DeviceCaches* caches() const { return caches_.get(); }

  Result<std::unique_ptr<DeviceDecoder>> TakeDecoder() {
    {
      const std::scoped_lock lock(mutex_);
      if (!idle_decoders_.empty()) {
        std::unique_ptr<DeviceDecoder> decoder = std::move(idle_decoders_.back());
        idle_decoders_.pop_back();
        return decoder;
      }
    }
    return DeviceDecoder::Create(*transformer_, *pages_);
  }

  void GiveBack(std::unique_ptr<DeviceDecoder> decoder) {
    const std::scoped_lock lock(mutex_);
    idle_decoders_.push_back(std::move(decoder));
  }

  // Notes whether the device survived `status`, and returns it.
  Status Noted(const Status& status) {
    if (status.code() != StatusCode::kInternal) return status;
    const Status left = kernels::WaitFor(stream_.get());
    const std::scoped_lock lock(mutex_);
    if (!left.ok() && health_.ok()) health_ = left;
    return status;
  }

  Status health() const {
    const std::scoped_lock lock(mutex_);
    return health_;
  }

 private:
  // Immutable after Create.
  ThreadPool* threads_ = nullptr;
  kernels::OwnerStream stream_;  // on which the pages were allocated
  std::unique_ptr<model::CudaTransformer> transformer_;
  std::unique_ptr<model::DeviceKvPool> pages_;
  std::unique_ptr<DeviceCaches> caches_;
  std::unique_ptr<DeviceFusion> fusion_;  // used by whoever holds turn_

  std::unique_ptr<DeviceKvBuilder> builder_;  // of whoever holds build_turn_; null until needed

  std::mutex turn_;
  std::mutex build_turn_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::vector<std::unique_ptr<DeviceDecoder>> idle_decoders_;
  Status health_;
};

class DeviceBackend::Run : public FusedRun {
 public:
  Run(std::shared_ptr<State> state, std::unique_ptr<model::DeviceKv> kv,
      std::unique_ptr<DeviceDecoder> decoder)
      : state_(std::move(state)), kv_(std::move(kv)), decoder_(std::move(decoder)) {}

  ~Run() override {
    // Nothing may read the pages when they are given back. An error was seen by Step.
    decoder_->Finish().IgnoreError();
    kv_.reset();
    state_->GiveBack(std::move(decoder_));
  }

  Result<FusedStep> Step(int32_t token, int64_t position, const model::Sampler& sampler,
                         const CancelToken* cancel) override {
    Result<FusedStep> step = decoder_->Step(*kv_, token, position, sampler, cancel);
    if (!step.ok()) return state_->Noted(step.status());
    return step;
  }

 private:
  const std::shared_ptr<State> state_;
  std::unique_ptr<model::DeviceKv> kv_;
  std::unique_ptr<DeviceDecoder> decoder_;
};

Result<std::unique_ptr<DeviceBackend>> DeviceBackend::Load(const model::GgufFile& file,
                                                           const DeviceModelOptions& options) {
  INTARSIA_ASSIGN_OR_RETURN(std::shared_ptr<State> state, State::Create(file, options));
  return std::unique_ptr<DeviceBackend>(new DeviceBackend(std::move(state)));
}

Result<StartedRun> DeviceBackend::Prefill(const Prompt& prompt, const FusionOptions& options,
                                          int64_t num_new_tokens_max, const CancelToken* cancel) {
  INTARSIA_RETURN_IF_ERROR(state_->health());
  Result<DeviceFusedContext> context = state_->Prefill(
      prompt, {.fusion = options, .num_new_tokens_max = num_new_tokens_max, .cancel = cancel});
  if (!context.ok()) return state_->Noted(context.status());
  Result<std::unique_ptr<DeviceDecoder>> decoder = state_->TakeDecoder();
  if (!decoder.ok()) return state_->Noted(decoder.status());
  StartedRun started;
  started.run = std::make_unique<Run>(state_, std::move(context->kv), *std::move(decoder));
  static_cast<FusedPrompt&>(started) = *std::move(context);
  return started;
}

Result<std::vector<std::unique_ptr<MemoryKv>>> DeviceBackend::BuildCaches(const KvRuns& runs) {
  INTARSIA_RETURN_IF_ERROR(state_->health());
  auto built = state_->BuildCaches(runs);
  if (!built.ok()) return state_->Noted(built.status());
  return built;
}

Status DeviceBackend::Health() const { return state_->health(); }

storage::KvMemoryStats DeviceBackend::cache_stats() const { return state_->caches()->stats(); }

void DeviceBackend::ForgetCaches(const std::function<bool(const Digest&)>& is_gone) {
  state_->caches()->RemoveIf(is_gone);
}

}  // namespace intarsia::engine
