// ChunkCaches: KV caches of chunks for measurements of quality, in any form, made where the prompts
// will run.
//
// On a device they are computed there, in bf16, and encoded from that; on the CPU in the
// transformer's type, and encoded from what it computes in f32.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/kv_source.h"
#include "model/gguf.h"
#include "model/transformer.h"

namespace intarsia::bench {

class ChunkCaches {
 public:
  virtual ~ChunkCaches() = default;
  // The cache of `tokens` behind the header. Without a form it is kept as it was computed.
  virtual Result<std::unique_ptr<engine::MemoryKv>> Build(
      std::span<const int32_t> tokens, std::optional<engine::KvPayloadType> form) = 0;
  virtual const engine::KvSource& header() const = 0;
};

// The transformer must outlive what is returned.
Result<std::unique_ptr<ChunkCaches>> MakeCpuCaches(const model::Transformer& transformer,
                                                   std::span<const int32_t> header);

// The pool must outlive what is returned.
// Errors: those of CudaTransformer::Load; kUnsupported in a program without CUDA.
Result<std::unique_ptr<ChunkCaches>> MakeDeviceCaches(const model::GgufFile& file, int32_t device,
                                                      std::span<const int32_t> header,
                                                      ThreadPool* pool);

}  // namespace intarsia::bench
