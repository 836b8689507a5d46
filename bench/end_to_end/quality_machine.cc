#include "bench/end_to_end/quality_machine.h"

#include <numeric>
#include <utility>

#include "engine/fusion/kv_builder.h"
#include "kernels/packed_matrix.h"
#include "model/transformer.h"

namespace intarsia::bench {
namespace {

class CpuRun : public QualityRun {
 public:
  CpuRun(const model::Transformer& transformer, engine::FusedContext context)
      : transformer_(transformer), cache_(std::move(context.cache)) {
    logits = std::move(context.logits);
    usage = context.usage;
    timing = context.timing;
  }

  Result<std::vector<float>> Continue(std::span<const int32_t> tokens, int64_t position) override {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
    return transformer_.Forward({.tokens = tokens,
                                 .positions = positions,
                                 .num_logit_rows = static_cast<int32_t>(tokens.size())},
                                cache_.get());
  }

 private:
  const model::Transformer& transformer_;
  const std::unique_ptr<model::KvCache> cache_;
};

class CpuMachine : public QualityMachine {
 public:
  CpuMachine(std::unique_ptr<model::Transformer> transformer,
             std::unique_ptr<engine::MemoryKv> header, int64_t num_new_tokens_max)
      : transformer_(std::move(transformer)),
        header_(std::move(header)),
        num_new_tokens_max_(num_new_tokens_max) {}

  Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) override {
    return engine::BuildKv(*transformer_, header_.get(), tokens,
                           form.value_or(engine::PayloadTypeOf(*transformer_)), nullptr);
  }
  const engine::KvSource& header() const override { return *header_; }

  Result<std::unique_ptr<QualityRun>> Run(const engine::Prompt& prompt,
                                          const engine::FusionOptions& options) override {
    INTARSIA_ASSIGN_OR_RETURN(
        engine::FusedContext context,
        engine::FusedPrefill(*transformer_, prompt, options, num_new_tokens_max_, nullptr));
    return std::unique_ptr<QualityRun>(new CpuRun(*transformer_, std::move(context)));
  }

 private:
  const std::unique_ptr<model::Transformer> transformer_;
  const std::unique_ptr<engine::MemoryKv> header_;
  const int64_t num_new_tokens_max_;
};

}  // namespace

Result<std::unique_ptr<QualityMachine>> MakeQualityMachine(const model::GgufFile& file,
                                                           std::span<const int32_t> header,
                                                           const QualityMachineOptions& options) {
  if (options.device >= 0) return MakeQualityDevice(file, header, options);
  const bool is_bf16 =
      options.compute == "bf16" || (options.compute == "auto" && kernels::HasFastBf16());
  const auto compute = is_bf16 ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<model::Transformer> transformer,
                            model::Transformer::Load(file, {.compute = compute}, options.pool));
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<engine::MemoryKv> header_kv,
                            engine::BuildKv(*transformer, nullptr, header, nullptr));
  return std::unique_ptr<QualityMachine>(
      new CpuMachine(std::move(transformer), std::move(header_kv), options.num_new_tokens_max));
}

}  // namespace intarsia::bench
