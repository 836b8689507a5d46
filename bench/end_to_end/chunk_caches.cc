#include "bench/end_to_end/chunk_caches.h"

#include <utility>

#include "engine/fusion/kv_builder.h"

namespace intarsia::bench {
namespace {

class CpuCaches : public ChunkCaches {
 public:
  CpuCaches(const model::Transformer& transformer, std::unique_ptr<engine::MemoryKv> header)
      : transformer_(transformer), header_(std::move(header)) {}

  Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) override {
    return engine::BuildKv(transformer_, header_.get(), tokens,
                           form.value_or(engine::PayloadTypeOf(transformer_)), nullptr);
  }
  const engine::KvSource& header() const override { return *header_; }

 private:
  const model::Transformer& transformer_;
  const std::unique_ptr<engine::MemoryKv> header_;
};

}  // namespace

Result<std::unique_ptr<ChunkCaches>> MakeCpuCaches(const model::Transformer& transformer,
                                                   std::span<const int32_t> header) {
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<engine::MemoryKv> header_kv,
                            engine::BuildKv(transformer, nullptr, header, nullptr));
  return std::make_unique<CpuCaches>(transformer, std::move(header_kv));
}

}  // namespace intarsia::bench
