// CpuBackend: prompts and answers on the CPU.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/fusion/fusion_backend.h"
#include "model/transformer.h"

namespace intarsia::engine {

class CpuBackend : public FusionBackend {
 public:
  explicit CpuBackend(std::shared_ptr<const model::Transformer> transformer)
      : transformer_(std::move(transformer)) {}

  Result<StartedRun> Prefill(const Prompt& prompt, const FusionOptions& options,
                             int64_t num_new_tokens_max, const CancelToken* cancel) override;

 private:
  const std::shared_ptr<const model::Transformer> transformer_;
};

}  // namespace intarsia::engine
