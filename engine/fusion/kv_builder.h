// BuildKv: computes the KV cache of a run of tokens behind a header, the header dropped.
//
// With the header in front the attention sinks sit where they will sit in a prompt, and the first
// chunk of a prompt is exact.
//
// Thread safety: concurrent calls are safe and share the transformer's pool.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/fusion/kv_source.h"
#include "model/transformer.h"

namespace intarsia::engine {

// `header` may be null: nothing stands in front. The payload has the given type.
// Errors: kInvalidArgument for no tokens, kNotFound if the header's cache cannot be read,
// kUnsupported if the numbers cannot be quantised, kCancelled, kResourceExhausted.
Result<std::unique_ptr<MemoryKv>> BuildKv(const model::Transformer& transformer,
                                          const KvSource* header, std::span<const int32_t> tokens,
                                          KvPayloadType type, const CancelToken* cancel);

// The same in the transformer's compute type, PayloadTypeOf.
Result<std::unique_ptr<MemoryKv>> BuildKv(const model::Transformer& transformer,
                                          const KvSource* header, std::span<const int32_t> tokens,
                                          const CancelToken* cancel);

// Runs of tokens whose caches are computed together, each behind the same header.
struct KvRuns {
  std::span<const int32_t> header;  // may be empty
  std::vector<std::span<const int32_t>> runs;
  KvPayloadType type = KvPayloadType::kInt8;
  const CancelToken* cancel = nullptr;  // may be null
};

// kernels::EncodeKv for a cache at rest: its error of numbers that cannot be quantised has the
// remedy.
Status EncodeCache(const kernels::EncodeKvParams& params);

// The payload type that keeps what the transformer computes.
KvPayloadType PayloadTypeOf(const model::Transformer& transformer);

}  // namespace intarsia::engine
