// KvIdentity: the name of a KV cache, made of everything that its values depend on.
//
// A cache is found by its identity alone, so two caches that differ in anything must differ in it:
// a mismatch is then a miss and never a wrong answer.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <span>

#include "base/hash.h"
#include "engine/fusion/kv_source.h"
#include "engine/model_registry.h"
#include "storage/catalog.h"

namespace intarsia::engine {

// How the caches of a collection are kept at rest for a model: its option kv_dtype, int8 without
// one; with 'auto' the form that was chosen for the model.
KvPayloadType KvTypeOf(const storage::CollectionInfo& collection, const storage::ModelInfo& model);

// How many seconds the caches of a collection are used after they were written, by its option
// kv_ttl; 0: without end.
int64_t KvTtlOf(const storage::CollectionInfo& collection);

// What all caches of one model, header, collection and type share. The collection keeps tenants
// apart: equal text in two of them has two caches.
struct KvFamily {
  Digest digest;
  KvPayloadType type = KvPayloadType::kInt8;
};
KvFamily KvFamilyOf(const Generator& generator, std::span<const int32_t> header,
                    const storage::CollectionInfo& collection);

// The identity of the cache of `tokens` within a family.
Digest KvIdentityOf(const KvFamily& family, std::span<const int32_t> tokens);

}  // namespace intarsia::engine
