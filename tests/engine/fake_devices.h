// FakeDevices: a machine with a device that computes what the CPU does, and fails where it is told.
//
// Thread safety: its state is owned by one thread at a time: wait for what is written behind an
// answer before you look at it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/device_provider.h"
#include "engine/fusion/cpu_backend.h"
#include "engine/fusion/device_caches.h"
#include "engine/fusion/kv_builder.h"
#include "model/transformer.h"
#include "tests/index/host_code_scanner.h"

namespace intarsia::engine {

// A machine without devices.
class AbsentDevices : public DeviceProvider {
 public:
  bool is_built() const override { return is_built_; }
  Status Check(int32_t) const override { return {StatusCode::kUnsupported, "there is no device"}; }
  Result<std::unique_ptr<FusionBackend>> Load(const model::GgufFile&,
                                              const DeviceModelOptions& options) override {
    return Check(options.index);
  }
  Result<std::unique_ptr<index::CodeScanner>> MakeCodeScanner(int32_t index) override {
    return Check(index);
  }
  std::shared_ptr<MemorySource> PinnedMemory() override { return nullptr; }

  bool is_built_ = false;
};

class PlainMemory : public MemorySource {
 public:
  MemoryBlock Take(int64_t num_bytes) override { return MemoryPool::Allocate(num_bytes); }
  void Give(const MemoryBlock& block) override { MemoryPool::Free(block); }
};

// What goes wrong, and what was seen.
struct FakeDeviceState {
  Status load;                        // what loading a model returns
  std::function<void()> during_load;  // may be empty
  // The same of the next one of these, once.
  std::function<void()> during_prefill;
  std::function<void()> during_build;
  std::function<void()> during_step;
  Status prefill;                                          // what the selector `deviation` returns
  Status build;                                            // what computing caches returns
  Status step;                                             // what steps return
  Status health;                                           // of the device
  Status extend;                                           // what taking up codes returns
  Status scan;                                             // what scans return
  int64_t num_scanners = 0;                                // of codes, on the device now
  int64_t num_scans = 0;                                   // by them
  int64_t num_loads = 0;                                   // of models
  int64_t num_there = 0;                                   // models that are on the device now
  int64_t num_prefills = 0;                                // that were computed there
  int64_t kv_bytes_max = -1;                               // of the last load
  model::CudaCompute compute = model::CudaCompute::kBf16;  // the same
  int64_t num_builds = 0;                                  // passes that computed caches,
  int64_t num_built = 0;     // and caches of chunks that they computed
  int64_t num_pinned = 0;    // caches of the last prompt in pinned memory,
  int64_t num_resident = 0;  // and on the device
};

inline void CallOnce(std::function<void()>* function) {
  const std::function<void()> call = std::exchange(*function, nullptr);
  if (call) call();
}

class FakeDeviceBackend : public FusionBackend {
 public:
  FakeDeviceBackend(FakeDeviceState* state, std::shared_ptr<const model::Transformer> transformer,
                    int64_t cache_bytes_max)
      : state_(*state),
        transformer_(transformer),
        config_(transformer->config()),
        caches_(std::make_shared<SlabMemory>(std::make_unique<PlainMemory>(), 1 << 20),
                cache_bytes_max),
        cpu_(std::move(transformer)) {
    ++state_.num_there;
  }
  ~FakeDeviceBackend() override { --state_.num_there; }

  Result<StartedRun> Prefill(const Prompt& prompt, const FusionOptions& options,
                             int64_t num_new_tokens_max, const CancelToken* cancel) override {
    if (options.selector == "deviation" && !state_.prefill.ok()) return state_.prefill;
    DeviceCaches::Lease lease(&caches_, prompt, config_);
    state_.num_pinned = 0;
    state_.num_resident = 0;
    for (const Segment& segment : lease.prompt().segments()) {
      if (segment.cached == nullptr) continue;
      if (segment.cached->PinnedLayer(0) != nullptr) ++state_.num_pinned;
      if (segment.cached->DeviceLayer(0) != nullptr) ++state_.num_resident;
    }
    INTARSIA_ASSIGN_OR_RETURN(StartedRun started,
                              cpu_.Prefill(lease.prompt(), options, num_new_tokens_max, cancel));
    CallOnce(&state_.during_prefill);
    lease.Keep(started.lost_segments);
    ++state_.num_prefills;
    // Such that loading is always worth it and no reason for more rows.
    started.timing.load_ms = 2.0;
    started.timing.wait_ms = 0.5;
    started.timing.rows_ms = 1e6;
    started.timing.read_bytes = 1'000'000;
    started.timing.pinned_bytes = 3'000'000;
    started.run = std::make_unique<Run>(&state_, std::move(started.run));
    return started;
  }
  // As one who computes it alone, but for the number of tokens.
  Result<std::vector<std::unique_ptr<MemoryKv>>> BuildCaches(const KvRuns& runs) override {
    INTARSIA_RETURN_IF_ERROR(state_.build);
    CallOnce(&state_.during_build);
    ++state_.num_builds;
    std::unique_ptr<MemoryKv> header;
    if (!runs.header.empty()) {
      INTARSIA_ASSIGN_OR_RETURN(header, BuildKv(*transformer_, nullptr, runs.header, runs.cancel));
    }
    std::vector<std::unique_ptr<MemoryKv>> caches;
    for (const std::span<const int32_t> run : runs.runs) {
      INTARSIA_ASSIGN_OR_RETURN(caches.emplace_back(),
                                BuildKv(*transformer_, header.get(), run, runs.type, runs.cancel));
      if (!runs.header.empty()) ++state_.num_built;
    }
    return caches;
  }
  Status Health() const override { return state_.health; }
  storage::KvMemoryStats cache_stats() const override { return caches_.stats(); }
  void ForgetCaches(const std::function<bool(const Digest&)>& is_gone) override {
    caches_.RemoveIf(is_gone);
  }

 private:
  class Run : public FusedRun {
   public:
    Run(FakeDeviceState* state, std::unique_ptr<FusedRun> run)
        : state_(*state), run_(std::move(run)) {}
    Result<FusedStep> Step(int32_t token, int64_t position, const model::Sampler& sampler,
                           const CancelToken* cancel) override {
      CallOnce(&state_.during_step);
      if (!state_.step.ok()) return state_.step;
      return run_->Step(token, position, sampler, cancel);
    }

   private:
    FakeDeviceState& state_;
    const std::unique_ptr<FusedRun> run_;
  };

  FakeDeviceState& state_;
  const std::shared_ptr<const model::Transformer> transformer_;
  const model::ModelConfig config_;
  DeviceCaches caches_;
  CpuBackend cpu_;
};

class FakeCodeScanner : public index::HostCodeScanner {
 public:
  explicit FakeCodeScanner(FakeDeviceState* state) : state_(*state) { ++state_.num_scanners; }
  ~FakeCodeScanner() override { --state_.num_scanners; }
  Status Extend(const kernels::BinaryCodeBlocks& blocks, int64_t num_rows) override {
    INTARSIA_RETURN_IF_ERROR(state_.extend);
    return HostCodeScanner::Extend(blocks, num_rows);
  }
  Result<index::CodeScanResult> Scan(const index::CodeScanParams& params) override {
    INTARSIA_RETURN_IF_ERROR(state_.scan);
    ++state_.num_scans;
    return HostCodeScanner::Scan(params);
  }

 private:
  FakeDeviceState& state_;
};

class FakeDevices : public DeviceProvider {
 public:
  bool is_built() const override { return true; }
  Status Check(int32_t index) const override {
    if (index == 0) return Status::Ok();
    return {StatusCode::kInvalidArgument, "there is one device"};
  }
  Result<std::unique_ptr<FusionBackend>> Load(const model::GgufFile& file,
                                              const DeviceModelOptions& options) override {
    ++state_.num_loads;
    state_.kv_bytes_max = options.kv_bytes_max;
    state_.compute = options.compute;
    if (state_.during_load) state_.during_load();
    INTARSIA_RETURN_IF_ERROR(state_.load);
    INTARSIA_ASSIGN_OR_RETURN(
        std::shared_ptr<const model::Transformer> transformer,
        model::Transformer::Load(file, {.compute = kernels::ComputeType::kF32}, options.threads));
    return std::unique_ptr<FusionBackend>(std::make_unique<FakeDeviceBackend>(
        &state_, std::move(transformer), options.cache_bytes_max));
  }
  Result<std::unique_ptr<index::CodeScanner>> MakeCodeScanner(int32_t index) override {
    INTARSIA_RETURN_IF_ERROR(Check(index));
    return std::unique_ptr<index::CodeScanner>(std::make_unique<FakeCodeScanner>(&state_));
  }
  std::shared_ptr<MemorySource> PinnedMemory() override {
    return std::make_shared<SlabMemory>(std::make_unique<PlainMemory>(), 1 << 20);
  }
  FakeDeviceState& state() { return state_; }

 private:
  FakeDeviceState state_;
};

}  // namespace intarsia::engine
