#include "engine/fusion/kv_builder.h"

#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/fusion/layer_loader.h"
#include "engine/fusion/layer_placer.h"
#include "engine/fusion/prompt.h"
#include "kernels/convert.h"

namespace intarsia::engine {
namespace {

// Places the header and keeps what the rows compute.
class Recorder : public model::LayerObserver {
 public:
  Recorder(LayerLoader* loader, const LayerPlacer* placer, KvPayloadType type, int64_t kv_size)
      : loader_(*loader), placer_(*placer), type_(type), kv_size_(kv_size) {}

  Status OnKeysAndValues(const model::LayerRows& rows, std::vector<int32_t>*) override {
    INTARSIA_RETURN_IF_ERROR(loader_.Wait(rows.layer));
    INTARSIA_RETURN_IF_ERROR(placer_.Place(rows.layer, LayerPlacer::Scope::kAll, nullptr, nullptr));
    const int64_t num_elements = std::ssize(rows.positions) * kv_size_;
    const int64_t half = num_elements * KvElementBytes(type_);
    std::vector<uint8_t>& payload = layers_.emplace_back(static_cast<size_t>(2 * half));
    for (const auto& [values, offset] : {std::pair(rows.k, int64_t{0}), std::pair(rows.v, half)}) {
      if (type_ == KvPayloadType::kF32) {
        std::memcpy(payload.data() + offset, values, static_cast<size_t>(half));
      } else {
        kernels::F32ToBf16(values, num_elements,
                           reinterpret_cast<uint16_t*>(payload.data() + offset));
      }
    }
    return Status::Ok();
  }

  Status OnQueries(const model::LayerQueries&) override { return Status::Ok(); }

  std::vector<std::vector<uint8_t>> TakeLayers() { return std::move(layers_); }

 private:
  LayerLoader& loader_;
  const LayerPlacer& placer_;
  const KvPayloadType type_;
  const int64_t kv_size_;
  std::vector<std::vector<uint8_t>> layers_;
};

}  // namespace

KvPayloadType PayloadTypeOf(const model::Transformer& transformer) {
  return transformer.kv_type() == kernels::KvType::kF32 ? KvPayloadType::kF32
                                                        : KvPayloadType::kBf16;
}

Result<std::unique_ptr<MemoryKv>> BuildKv(const model::Transformer& transformer,
                                          const KvSource* header, std::span<const int32_t> tokens,
                                          const CancelToken* cancel) {
  // The header's own ids do not matter here: its cache stands for them.
  PromptPart front;
  if (header != nullptr) {
    front.tokens.resize(static_cast<size_t>(header->num_tokens()));
    front.cached = header;
  }
  INTARSIA_ASSIGN_OR_RETURN(const Prompt prompt, Prompt::Create(front, {}, tokens));
  const model::ModelConfig& config = transformer.config();
  LayerLoader loader(prompt, config.num_layers, config.kv_size());
  INTARSIA_ASSIGN_OR_RETURN(
      const std::unique_ptr<model::KvCache> cache,
      model::KvCache::Create(config, transformer.kv_type(), prompt.num_tokens()));
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<LayerPlacer> placer,
                            LayerPlacer::Create(prompt, loader, transformer, cache.get()));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(prompt.question_begin()));
  Recorder recorder(&loader, placer.get(), PayloadTypeOf(transformer), config.kv_size());
  INTARSIA_RETURN_IF_ERROR(transformer
                               .Forward({.tokens = tokens,
                                         .positions = positions,
                                         .num_logit_rows = 0,
                                         .observer = &recorder,
                                         .cancel = cancel},
                                        cache.get())
                               .status());
  return std::make_unique<MemoryKv>(PayloadTypeOf(transformer), std::ssize(tokens),
                                    recorder.TakeLayers());
}

}  // namespace intarsia::engine
