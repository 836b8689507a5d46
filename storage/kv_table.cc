#include "storage/kv_table.h"

#include <algorithm>

#include "base/check.h"

namespace intarsia::storage {

using Lock = std::lock_guard<std::mutex>;

void KvTable::Count(const KvEntry& entry, int64_t sign) {
  const int64_t num_bytes = sign * entry.disk_bytes();
  SegmentUse& use = segments_[entry.segment];
  use.live_bytes += num_bytes;
  use.num_entries += sign;
  live_bytes_ += num_bytes;
  if (use.num_entries == 0) segments_.erase(entry.segment);
}

void KvTable::SetRetentionOf(KvSlot* slot, KvRetention retention) {
  const int64_t sign = (retention != KvRetention::kEvictable ? 1 : 0) -
                       (slot->retention != KvRetention::kEvictable ? 1 : 0);
  num_retained_ += sign;
  retained_bytes_ += sign * slot->entry->disk_bytes();
  slot->retention = retention;
}

void KvTable::Erase(Slots::iterator found) {
  found->second->is_live.store(false);
  SetRetentionOf(found->second.get(), KvRetention::kEvictable);
  Count(*found->second->entry, -1);
  slots_.erase(found);
}

void KvTable::Reserve(int64_t num_entries) {
  const Lock lock(mutex_);
  slots_.reserve(static_cast<size_t>(std::max<int64_t>(0, num_entries)));
}

std::shared_ptr<KvSlot> KvTable::SlotFor(std::shared_ptr<const KvEntry> entry,
                                         const KvUseRecord& use) {
  auto slot = std::make_shared<KvSlot>();
  slot->entry = std::move(entry);
  slot->use = use;
  return slot;
}

void KvTable::InsertAll(std::vector<std::shared_ptr<KvSlot>> slots) {
  const Lock lock(mutex_);
  for (std::shared_ptr<KvSlot>& slot : slots) {
    clock_ = std::max(clock_, slot->use.last_use);
    Count(*slot->entry, 1);
    const Digest identity = slot->entry->identity;
    INTARSIA_CHECK(slots_.emplace(identity, std::move(slot)).second);
  }
}

KvUseRecord KvTable::NewUse(CollectionId collection) const {
  return {.last_use = clock() + 1,
          .num_uses = 1,
          .stored_at = clock_of_day_->NowSeconds(),
          .collection = collection};
}

void KvTable::SetTtl(CollectionId collection, int64_t ttl_seconds) {
  const Lock lock(mutex_);
  if (ttl_seconds > 0) {
    ttls_[collection] = ttl_seconds;
  } else {
    ttls_.erase(collection);
  }
}

bool KvTable::IsExpired(const KvSlot& slot) const {
  if (ttls_.empty() || slot.retention != KvRetention::kEvictable) return false;
  const auto ttl = ttls_.find(slot.use.collection);
  return ttl != ttls_.end() && clock_of_day_->NowSeconds() - slot.use.stored_at >= ttl->second;
}

std::vector<Digest> KvTable::ListExpired() const {
  const Lock lock(mutex_);
  std::vector<Digest> identities;
  if (ttls_.empty()) return identities;
  for (const auto& [identity, slot] : slots_) {
    if (slot->num_pins == 0 && IsExpired(*slot)) identities.push_back(identity);
  }
  std::sort(identities.begin(), identities.end());
  return identities;
}

bool KvTable::Contains(const Digest& identity) const {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  return found != slots_.end() && !IsExpired(*found->second);
}

KvTable::Pinned KvTable::Pin(const Digest& identity, Use use) {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  if (found == slots_.end()) return {};
  KvSlot& slot = *found->second;
  if (use == Use::kCount && IsExpired(slot)) return {};
  slot.num_pins += 1;
  num_pins_ += 1;
  if (use == Use::kIgnore) return {.slot = found->second, .entry = slot.entry};
  slot.use.last_use = ++clock_;
  slot.use.num_uses += 1;
  if (!slot.is_dirty) dirty_.push_back(identity);
  slot.is_dirty = true;
  return {.slot = found->second, .entry = slot.entry};
}

void KvTable::Unpin(KvSlot* slot) {
  const Lock lock(mutex_);
  slot->num_pins -= 1;
  num_pins_ -= 1;
}

std::shared_ptr<KvSlot> KvTable::SlotOf(const KvEntry& entry) const {
  const Lock lock(mutex_);
  const auto found = slots_.find(entry.identity);
  if (found == slots_.end() || found->second->entry.get() != &entry) return nullptr;
  return found->second;
}

std::shared_ptr<const KvEntry> KvTable::EntryOf(const KvSlot& slot) const {
  const Lock lock(mutex_);
  return slot.entry;
}

bool KvTable::Remove(const Digest& identity) {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  if (found == slots_.end()) return false;
  Erase(found);
  return true;
}

bool KvTable::RemoveUnused(const Digest& identity) {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  if (found == slots_.end() || found->second->num_pins != 0) return false;
  if (found->second->retention != KvRetention::kEvictable) return false;
  Erase(found);
  return true;
}

bool KvTable::RemoveSlot(const KvSlot& slot) {
  const Lock lock(mutex_);
  const auto found = slots_.find(slot.entry->identity);
  if (found == slots_.end() || found->second.get() != &slot) return false;
  Erase(found);
  return true;
}

bool KvTable::Relocate(const KvEntry* entry, std::shared_ptr<const KvEntry> moved) {
  const Lock lock(mutex_);
  const auto found = slots_.find(entry->identity);
  if (found == slots_.end() || found->second->entry.get() != entry) return false;
  Count(*entry, -1);
  Count(*moved, 1);
  found->second->entry = std::move(moved);
  return true;
}

std::vector<KvTable::Unused> KvTable::ListUnused() const {
  const Lock lock(mutex_);
  std::vector<Unused> unused;
  for (const auto& [identity, slot] : slots_) {
    if (slot->num_pins != 0 || slot->retention != KvRetention::kEvictable) continue;
    unused.push_back(
        {.identity = identity, .use = slot->use, .disk_bytes = slot->entry->disk_bytes()});
  }
  return unused;
}

std::vector<std::shared_ptr<const KvEntry>> KvTable::EntriesOf(uint64_t segment) const {
  const Lock lock(mutex_);
  std::vector<std::shared_ptr<const KvEntry>> entries;
  for (const auto& [identity, slot] : slots_) {
    if (slot->entry->segment == segment) entries.push_back(slot->entry);
  }
  // In the order of the file, which reads fastest.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a->extents.front().offset < b->extents.front().offset;
  });
  return entries;
}

std::vector<Digest> KvTable::ListIdentities() const {
  const Lock lock(mutex_);
  std::vector<Digest> identities;
  for (const auto& [identity, slot] : slots_) identities.push_back(identity);
  return identities;
}

std::map<uint64_t, KvTable::SegmentUse> KvTable::SegmentUses() const {
  const Lock lock(mutex_);
  return segments_;
}

std::vector<std::pair<Digest, KvUseRecord>> KvTable::TakeDirty() {
  const Lock lock(mutex_);
  std::vector<std::pair<Digest, KvUseRecord>> uses;
  for (const Digest& identity : dirty_) {
    const auto found = slots_.find(identity);
    if (found == slots_.end()) continue;
    found->second->is_dirty = false;
    uses.emplace_back(identity, found->second->use);
  }
  dirty_.clear();
  return uses;
}

std::optional<KvTable::Retained> KvTable::Look(const Digest& identity) const {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  if (found == slots_.end() || IsExpired(*found->second)) return std::nullopt;
  return Retained{.entry = found->second->entry, .retention = found->second->retention};
}

void KvTable::SetRetention(const Digest& identity, KvRetention retention) {
  const Lock lock(mutex_);
  const auto found = slots_.find(identity);
  if (found != slots_.end()) SetRetentionOf(found->second.get(), retention);
}

std::vector<Digest> KvTable::ListRetained(KvRetention retention) const {
  const Lock lock(mutex_);
  std::vector<Digest> identities;
  for (const auto& [identity, slot] : slots_) {
    if (slot->retention == retention) identities.push_back(identity);
  }
  std::sort(identities.begin(), identities.end());
  return identities;
}

uint64_t KvTable::clock() const {
  const Lock lock(mutex_);
  return clock_;
}
int64_t KvTable::num_entries() const {
  const Lock lock(mutex_);
  return static_cast<int64_t>(slots_.size());
}
int64_t KvTable::num_segments() const {
  const Lock lock(mutex_);
  return static_cast<int64_t>(segments_.size());
}
int64_t KvTable::live_bytes() const {
  const Lock lock(mutex_);
  return live_bytes_;
}
int64_t KvTable::num_pins() const {
  const Lock lock(mutex_);
  return num_pins_;
}
int64_t KvTable::num_retained() const {
  const Lock lock(mutex_);
  return num_retained_;
}
int64_t KvTable::retained_bytes() const {
  const Lock lock(mutex_);
  return retained_bytes_;
}

}  // namespace intarsia::storage
