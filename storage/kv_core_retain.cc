// KvCore::Retain and KvCore::DropExpired: caches that stay, or go, because the user wants them to.
#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "storage/kv_core.h"

namespace intarsia::storage {
namespace {

using Lock = std::lock_guard<std::mutex>;

constexpr int64_t kAll = -1;  // Fewer live bytes than there can be.

Status DoesNotFit(std::string_view tier, int64_t needed, int64_t bytes_max,
                  std::string_view remedy) {
  return Status(StatusCode::kResourceExhausted,
                "pinned caches do not fit into the budget of " + std::string(tier) +
                    ": needed=" + std::to_string(needed) + " budget=" + std::to_string(bytes_max) +
                    "; " + std::string(remedy));
}

}  // namespace

Result<std::vector<KvTable::Retained>> KvCore::CachesOf(std::span<const KvOwner> chunks,
                                                        int64_t* num_missing) const {
  std::vector<KvTable::Retained> caches;
  std::set<Digest> seen;  // Two chunks of equal text have one cache.
  for (const KvOwner& owner : chunks) {
    if (owner.collection == 0 || owner.document == 0 || owner.chunk == 0) {
      return Status(StatusCode::kInvalidArgument, "only the caches of chunks are retained");
    }
    const std::string prefix = KvChunkPrefix(owner);
    bool has_cache = false;
    RowCursor row = options_.rocks->ScanPrefix(Family::kKvRefs, prefix, nullptr);
    for (; row.Valid(); row.Next()) {
      INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(row.key()));
      std::optional<KvTable::Retained> cache = table_.Look(identity);
      if (!cache.has_value()) continue;
      has_cache = true;
      if (seen.insert(identity).second) caches.push_back(*std::move(cache));
    }
    INTARSIA_RETURN_IF_ERROR(row.status());
    *num_missing += has_cache ? 0 : 1;
  }
  return caches;
}

Status KvCore::CheckFits(const std::vector<KvTable::Retained>& caches,
                         KvRetention retention) const {
  int64_t more_disk = 0;
  int64_t more_memory = 0;
  for (const KvTable::Retained& cache : caches) {
    if (cache.retention == KvRetention::kEvictable) more_disk += cache.entry->disk_bytes();
    if (cache.retention != KvRetention::kInMemory && retention == KvRetention::kInMemory) {
      more_memory += KvMemory::BytesOf(*cache.entry);
    }
  }
  // A segment's header comes on top.
  const int64_t disk = table_.retained_bytes() + more_disk + kKvAlignment;
  if (more_disk > 0 && disk > bytes_max_.load()) {
    return DoesNotFit("disk", disk, bytes_max_.load(),
                      "pin fewer chunks, unpin others, or raise kv.disk_bytes_max");
  }
  const KvMemoryStats memory = memory_.stats();
  if (more_memory > 0 && memory.retained_bytes + more_memory > memory.bytes_max) {
    return DoesNotFit("memory", memory.retained_bytes + more_memory, memory.bytes_max,
                      "pin fewer chunks, raise kv.memory_bytes_max, or pin them with TIER DISK");
  }
  return Status::Ok();
}

Result<KvRetained> KvCore::Retain(std::span<const KvOwner> chunks, KvRetention retention) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const Lock commit(*options_.commit_mutex);
  KvRetained report;
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<KvTable::Retained> caches,
                            CachesOf(chunks, &report.num_missing));
  if (retention != KvRetention::kEvictable) {
    INTARSIA_RETURN_IF_ERROR(CheckFits(caches, retention));
  }
  RowBatch batch(options_.rocks);
  for (const KvTable::Retained& cache : caches) {
    report.num_bytes += cache.entry->payload_bytes();
    ++(cache.retention == retention ? report.num_unchanged : report.num_changed);
    const std::string key = KvRetentionKey(cache.entry->identity);
    if (retention == KvRetention::kEvictable) {
      batch.Delete(Family::kKvIndex, key);
    } else {
      batch.Put(Family::kKvIndex, key, EncodeNumber(static_cast<uint64_t>(retention)));
    }
  }
  if (report.num_changed > 0) {
    INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kSync));
  }
  for (const KvTable::Retained& cache : caches) {
    const Digest& identity = cache.entry->identity;
    table_.SetRetention(identity, retention);
    if (retention == KvRetention::kInMemory) {
      memory_.Retain(*cache.entry);
    } else {
      memory_.Release(identity);
    }
    // Found damaged meanwhile, and nobody else would take it out again.
    if (!table_.Contains(identity)) memory_.Remove(identity);
  }
  return report;
}

Status KvCore::LoadRetained(const CancelToken* cancel) {
  for (const Digest& identity : table_.ListRetained(KvRetention::kInMemory)) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    // What is damaged or was deleted meanwhile is a miss here as everywhere.
    if (const Status status = LoadOne(identity); status.code() != StatusCode::kNotFound) {
      INTARSIA_RETURN_IF_ERROR(status);
    }
  }
  return Status::Ok();
}

Status KvCore::LoadOne(const Digest& identity) {
  INTARSIA_ASSIGN_OR_RETURN(const KvHandle handle, Peek(identity));
  const std::shared_ptr<KvMemoryEntry> held = memory_.Hold(*handle.pin().entry);
  if (held == nullptr) return Status::Ok();  // What is in use fills the memory.
  std::vector<uint8_t> payload;
  for (int64_t layer = 0; layer < handle.shape().num_layers; ++layer) {
    if (held->Has(layer)) continue;
    payload.resize(static_cast<size_t>(handle.layer_bytes(layer)));
    INTARSIA_RETURN_IF_ERROR(ReadLayer(handle.pin(), layer, payload));
    held->Keep(layer, payload);
  }
  if (!handle.is_live()) memory_.Remove(identity);
  return Status::Ok();
}

Result<int64_t> KvCore::DropExpired() {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const std::vector<Digest> expired = table_.ListExpired();
  if (expired.empty()) return int64_t{0};
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_dropped, DropUnused(expired, kAll));
  num_expirations_ += num_dropped;
  return num_dropped;
}

Result<std::set<Digest>> KvCore::CachesBelow(const std::string& prefix) const {
  std::set<Digest> identities;
  RowCursor row = options_.rocks->ScanPrefix(Family::kKvRefs, prefix, nullptr);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(row.key()));
    identities.insert(identity);
  }
  INTARSIA_RETURN_IF_ERROR(row.status());
  return identities;
}

std::map<std::string, std::vector<KvExtent>> KvCore::LiveExtents() const {
  std::map<std::string, std::vector<KvExtent>> live;
  for (const auto& [number, use] : table_.SegmentUses()) {
    std::vector<KvExtent>& extents = live[SegmentName(number)];
    for (const auto& entry : table_.EntriesOf(number)) {
      extents.insert(extents.end(), entry->extents.begin(), entry->extents.end());
    }
    std::ranges::sort(extents, {}, &KvExtent::offset);
  }
  return live;
}

Status KvCore::SetBudget(int64_t bytes_max) {
  const Lock commit(*options_.commit_mutex);
  const int64_t retained = table_.retained_bytes();
  if (retained > 0 && bytes_max < bytes_max_.load() && bytes_max < retained + kKvAlignment) {
    return DoesNotFit("disk", retained + kKvAlignment, bytes_max, "UNPIN CACHE FOR some first");
  }
  bytes_max_.store(bytes_max);
  segments_->SetSegmentBytesMax(SegmentBytesMax(bytes_max));
  return Status::Ok();
}

Status KvCore::SetMemoryBudget(int64_t bytes_max) {
  const Lock commit(*options_.commit_mutex);
  const KvMemoryStats stats = memory_.stats();
  if (bytes_max < stats.bytes_max && bytes_max < stats.retained_bytes) {
    return DoesNotFit("memory", stats.retained_bytes, bytes_max, "UNPIN CACHE FOR some first");
  }
  memory_.SetBudget(bytes_max);
  return Status::Ok();
}

}  // namespace intarsia::storage
