// StoredKv: a cache in the store as a source of its layers, and how a computed one comes there.
//
// What the disk does not give back is a miss like a cache that is damaged: whoever reads computes
// the chunk, and nothing else depends on it.
//
// Thread safety: as KvSource; PutKv may be called concurrently.
// Lifetime: the store outlives the source.
#pragma once

#include <cstdint>
#include <span>

#include "base/hash.h"
#include "base/result.h"
#include "engine/fusion/kv_source.h"
#include "storage/kv_store.h"

namespace intarsia::engine {

// The cache is pinned while this lives.
class StoredKv : public KvSource {
 public:
  // REQUIRES: handle.valid().
  StoredKv(storage::KvStore* store, storage::KvHandle handle);

  KvPayloadType type() const override;
  int64_t num_tokens() const override;
  const Digest* identity() const override;
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override;
  bool StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag) const override;
  Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const override;
  const uint8_t* PinnedLayer(int32_t layer) const override;

 private:
  Status CheckShape(int32_t layer, int64_t num_bytes) const;

  storage::KvStore* const store_;
  const storage::KvHandle handle_;
  bool is_pinned_ = false;
};

// What a cache is stored as; see storage::KvPut.
struct KvLabel {
  Digest identity;
  storage::KvOwner owner;
  uint64_t generation = 0;
};
// Stores a computed cache. Errors: those of KvStore::Put.
Result<storage::KvPutOutcome> PutKv(storage::KvStore* store, const MemoryKv& computed,
                                    const KvLabel& label);

}  // namespace intarsia::engine
