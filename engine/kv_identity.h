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

namespace intarsia::engine {

// What all caches of one model, header and collection share.
// `salt` keeps tenants and collections apart: equal text in two of them has two caches.
Digest KvFamilyOf(const Generator& generator, std::span<const int32_t> header, uint64_t salt);

// The identity of the cache of `tokens` within a family.
Digest KvIdentityOf(const Digest& family, std::span<const int32_t> tokens);

}  // namespace intarsia::engine
