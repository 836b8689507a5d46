#include "storage/kv_store.h"

#include <utility>

#include "base/check.h"
#include "storage/kv_core.h"

namespace intarsia::storage {

KvHandle::KvHandle(std::unique_ptr<KvPin> pin) : pin_(std::move(pin)) {}
KvHandle::~KvHandle() = default;
KvHandle::KvHandle(KvHandle&& other) noexcept = default;
KvHandle& KvHandle::operator=(KvHandle&& other) noexcept = default;

const Digest& KvHandle::identity() const { return pin_->entry->identity; }
const KvShape& KvHandle::shape() const { return pin_->entry->shape; }
int64_t KvHandle::layer_bytes(int64_t layer) const {
  INTARSIA_CHECK(layer >= 0 && layer < shape().num_layers);
  return pin_->entry->extents[static_cast<size_t>(layer)].num_bytes;
}
int64_t KvHandle::DirectBytes(int64_t layer) const { return KvAligned(layer_bytes(layer)); }
int64_t KvHandle::total_bytes() const { return pin_->entry->payload_bytes(); }
bool KvHandle::is_live() const { return pin_->slot->is_live.load(); }

KvStore::KvStore(std::unique_ptr<KvCore> core) : core_(std::move(core)) {}
KvStore::~KvStore() = default;

uint64_t KvStore::generation() const { return core_->generation(); }
Result<KvPutOutcome> KvStore::Put(const KvPut& put) { return core_->Put(put); }
Result<bool> KvStore::AddOwner(const Digest& identity, const KvOwner& owner, uint64_t generation) {
  return core_->AddOwner(identity, owner, generation);
}
Result<bool> KvStore::IsOwner(const Digest& identity, const KvOwner& owner) const {
  return core_->IsOwner(identity, owner);
}
Result<KvHandle> KvStore::Find(const Digest& identity) { return core_->Find(identity); }
bool KvStore::Contains(const Digest& identity) const { return core_->Contains(identity); }

Status KvStore::ReadLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target) {
  INTARSIA_CHECK(handle.valid());
  return core_->ReadLayer(handle.pin(), layer, target);
}

bool KvStore::StartLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target,
                         AsyncReader* reader, int64_t tag) {
  INTARSIA_CHECK(handle.valid());
  return core_->StartLayer(handle.pin(), layer, target, reader, tag);
}

Status KvStore::FinishLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target,
                            int64_t num_read) {
  INTARSIA_CHECK(handle.valid());
  return core_->FinishLayer(handle.pin(), layer, target, num_read);
}

Result<int64_t> KvStore::DeleteByDocument(CollectionId collection, DocumentId document) {
  return core_->DeleteByDocument(collection, document);
}
Result<int64_t> KvStore::DeleteByCollection(CollectionId collection) {
  return core_->DeleteByCollection(collection);
}
Result<int64_t> KvStore::DeleteByModel(ModelId model) { return core_->DeleteByModel(model); }
Result<int64_t> KvStore::DeleteAll() { return core_->DeleteAll(); }

Result<int64_t> KvStore::Compact(const KvCompactOptions& options) {
  return core_->Compact(options.dead_share_min);
}

Result<KvRetained> KvStore::Retain(std::span<const KvOwner> chunks, KvRetention retention) {
  return core_->Retain(chunks, retention);
}
Status KvStore::LoadRetained(const CancelToken* cancel) { return core_->LoadRetained(cancel); }

void KvStore::SetTtl(CollectionId collection, int64_t ttl_seconds) {
  core_->SetTtl(collection, ttl_seconds);
}
Result<int64_t> KvStore::DropExpired() { return core_->DropExpired(); }

Status KvStore::SetBudget(int64_t bytes_max) {
  INTARSIA_CHECK(bytes_max >= 0);
  return core_->SetBudget(bytes_max);
}

Result<KvShrunk> KvStore::Shrink(const CancelToken* cancel) { return core_->Shrink(cancel); }

Status KvStore::SetMemoryBudget(int64_t bytes_max) {
  INTARSIA_CHECK(bytes_max >= 0);
  return core_->SetMemoryBudget(bytes_max);
}

void KvStore::SetMemorySource(std::shared_ptr<MemorySource> source) {
  core_->memory()->SetSource(std::move(source), SourceUse::kPreferred);
}
const uint8_t* KvStore::LayerInSource(const KvHandle& handle, int64_t layer) const {
  INTARSIA_CHECK(handle.valid() && layer >= 0 && layer < handle.shape().num_layers);
  const KvMemoryEntry* const memory = handle.pin().memory.get();
  return memory == nullptr ? nullptr : memory->InSource(layer);
}

KvMemoryStats KvStore::memory_stats() const { return core_->memory()->stats(); }
KvStats KvStore::stats() const { return core_->stats(); }
KvSpace KvStore::space() const { return core_->space(); }
Result<KvUsage> KvStore::UsageOfCollection(CollectionId collection) const {
  return core_->UsageBelow(KvCollectionPrefix(collection));
}

}  // namespace intarsia::storage
