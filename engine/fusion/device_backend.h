// DeviceBackend: a model on a device, with the memory that its prompts take there.
//
// Prompts take turns, because they share the rows' working memory; answers are decoded side by
// side, each on a stream of its own, and caches are computed beside them, with what they leave.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device_provider.h"
#include "engine/fusion/fusion_backend.h"
#include "model/gguf.h"

namespace intarsia::engine {

class DeviceBackend : public FusionBackend {
 public:
  // As DeviceProvider::Load.
  static Result<std::unique_ptr<DeviceBackend>> Load(const model::GgufFile& file,
                                                     const DeviceModelOptions& options);

  Result<StartedRun> Prefill(const Prompt& prompt, const FusionOptions& options,
                             int64_t num_new_tokens_max, const CancelToken* cancel) override;
  Result<std::vector<std::unique_ptr<MemoryKv>>> BuildCaches(const KvRuns& runs) override;
  Status Health() const override;
  storage::KvMemoryStats cache_stats() const override;
  void ForgetCaches(const std::function<bool(const Digest&)>& is_gone) override;

 private:
  class State;
  class Run;
  explicit DeviceBackend(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State> state_;
};

}  // namespace intarsia::engine
