// QualityMachine: a model where quality is measured, on the CPU or on a device: it computes caches
// of chunks in any form, prompts, and what follows a prompt.
//
// On a device caches are computed in bf16, and other forms encoded from that; on the CPU in the
// transformer's type, and encoded from what it computes in f32.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/kv_source.h"
#include "engine/fusion/prompt.h"
#include "model/gguf.h"

namespace intarsia::bench {

// A prompt that was run. Lifetime: within that of its machine.
class QualityRun {
 public:
  virtual ~QualityRun() = default;
  // The logits [tokens, vocab_size] behind each of the tokens, of which the first stands at
  // `position`; what stood there or behind it is forgotten. At most `num_new_tokens_max` tokens.
  virtual Result<std::vector<float>> Continue(std::span<const int32_t> tokens,
                                              int64_t position) = 0;

  std::vector<float> logits;  // [vocab_size] of the last prompt token
  engine::FusionUsage usage;
  engine::FusionTiming timing;
};

class QualityMachine {
 public:
  virtual ~QualityMachine() = default;

  // The cache of `tokens` behind the header. Without a form it is kept as it was computed.
  virtual Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) = 0;
  virtual const engine::KvSource& header() const = 0;

  // Errors: those of engine::FusedPrefill.
  virtual Result<std::unique_ptr<QualityRun>> Run(const engine::Prompt& prompt,
                                                  const engine::FusionOptions& options) = 0;
};

struct QualityMachineOptions {
  int32_t device = -1;           // below 0: the CPU
  std::string compute = "auto";  // of the CPU: bf16 or f32
  int64_t num_new_tokens_max = 16;
  ThreadPool* pool = nullptr;  // must outlive the machine
};

// Errors: those of loading the model; kUnsupported for a device in a program without CUDA.
Result<std::unique_ptr<QualityMachine>> MakeQualityMachine(const model::GgufFile& file,
                                                           std::span<const int32_t> header,
                                                           const QualityMachineOptions& options);

// Behind it: a device's, in quality_machine_cuda.cc or quality_machine_none.cc.
Result<std::unique_ptr<QualityMachine>> MakeQualityDevice(const model::GgufFile& file,
                                                          std::span<const int32_t> header,
                                                          const QualityMachineOptions& options);

}  // namespace intarsia::bench
