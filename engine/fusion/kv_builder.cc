#include "engine/fusion/kv_builder.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "engine/fusion/layer_loader.h"
#include "engine/fusion/layer_placer.h"
#include "engine/fusion/prompt.h"
#include "kernels/kv_codec.h"

namespace intarsia::engine {
namespace {

// Places the header and keeps what the rows compute.
class Recorder : public model::LayerObserver {
 public:
  Recorder(LayerLoader* loader, LayerPlacer* placer, KvPayloadType type, int64_t kv_size)
      : loader_(*loader), placer_(*placer), type_(type), kv_size_(kv_size) {}

  Status OnKeysAndValues(const model::LayerRows& rows, std::vector<int32_t>*) override {
    INTARSIA_RETURN_IF_ERROR(loader_.Load(rows.layer));
    INTARSIA_RETURN_IF_ERROR(placer_.Place(rows.layer, LayerPlacer::Scope::kAll, nullptr, nullptr));
    const int64_t num_bytes = kernels::KvPayloadBytes(type_, std::ssize(rows.positions), kv_size_);
    std::vector<uint8_t>& payload =
        layers_.emplace_back(static_cast<size_t>(std::max<int64_t>(0, num_bytes)));
    return EncodeCache({.type = type_,
                        .k = rows.k,
                        .v = rows.v,
                        .num_tokens = std::ssize(rows.positions),
                        .width = kv_size_,
                        .payload = payload.data(),
                        .payload_bytes = num_bytes});
  }

  Status OnQueries(const model::LayerQueries&) override { return Status::Ok(); }

  std::vector<std::vector<uint8_t>> TakeLayers() { return std::move(layers_); }

 private:
  LayerLoader& loader_;
  LayerPlacer& placer_;
  const KvPayloadType type_;
  const int64_t kv_size_;
  std::vector<std::vector<uint8_t>> layers_;
};

}  // namespace

Status EncodeCache(const kernels::EncodeKvParams& params) {
  const Status status = kernels::EncodeKv(params);
  if (status.code() != StatusCode::kUnsupported) return status;
  return {status.code(),
          std::string(status.message()) +
              "; a collection made WITH (kv_dtype = 'bf16') keeps the caches of this model"};
}

KvPayloadType PayloadTypeOf(const model::Transformer& transformer) {
  return transformer.kv_type() == kernels::KvType::kF32 ? KvPayloadType::kF32
                                                        : KvPayloadType::kBf16;
}

Result<std::unique_ptr<MemoryKv>> BuildKv(const model::Transformer& transformer,
                                          const KvSource* header, std::span<const int32_t> tokens,
                                          const CancelToken* cancel) {
  return BuildKv(transformer, header, tokens, PayloadTypeOf(transformer), cancel);
}

Result<std::unique_ptr<MemoryKv>> BuildKv(const model::Transformer& transformer,
                                          const KvSource* header, std::span<const int32_t> tokens,
                                          KvPayloadType type, const CancelToken* cancel) {
  // The header's own ids do not matter here: its cache stands for them.
  PromptPart front;
  if (header != nullptr) {
    front.tokens.resize(static_cast<size_t>(header->num_tokens()));
    front.cached = header;
  }
  INTARSIA_ASSIGN_OR_RETURN(const Prompt prompt, Prompt::Create(front, {}, tokens));
  const model::ModelConfig& config = transformer.config();
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<LayerLoader> loader,
                            LayerLoader::Create(prompt, transformer));
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<model::KvCache> cache,
                            model::KvCache::Create(config, transformer.kv_type(),
                                                   prompt.num_tokens(), transformer.memory_pool()));
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<LayerPlacer> placer,
                            LayerPlacer::Create(prompt, *loader, transformer, cache.get()));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(prompt.question_begin()));
  Recorder recorder(loader.get(), placer.get(), type, config.kv_size());
  INTARSIA_RETURN_IF_ERROR(transformer
                               .Forward({.tokens = tokens,
                                         .positions = positions,
                                         .num_logit_rows = 0,
                                         .observer = &recorder,
                                         .cancel = cancel},
                                        cache.get())
                               .status());
  return std::make_unique<MemoryKv>(type, std::ssize(tokens), recorder.TakeLayers());
}

}  // namespace intarsia::engine
