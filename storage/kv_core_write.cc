#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "storage/kv_core.h"

namespace intarsia::storage {
namespace {

using Lock = std::lock_guard<std::mutex>;

constexpr int64_t kLayersMax = 1 << 16;

Status BadPut(const std::string& what) {
  return Status(StatusCode::kInvalidArgument, "cannot store a kv cache: " + what);
}

// Errors: kInvalidArgument.
Status CheckOwner(const KvOwner& owner) {
  if ((owner.chunk != 0) == (owner.document != 0) &&
      (owner.document == 0 || owner.collection != 0)) {
    return Status::Ok();
  }
  return BadPut("an owner has a chunk, its document and their collection, or less than both");
}

}  // namespace

Status KvCore::CheckWritable() const {
  if (!options_.is_read_only) return Status::Ok();
  return Status(StatusCode::kUnsupported, "the database is open read-only: " + options_.directory);
}

Status KvCore::CheckPut(const KvPut& put) const {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const auto num_layers = static_cast<int64_t>(put.layers.size());
  if (num_layers < 1 || num_layers > kLayersMax || num_layers != put.shape.num_layers) {
    return BadPut("payloads=" + std::to_string(num_layers) +
                  " layers=" + std::to_string(put.shape.num_layers));
  }
  for (const std::string_view layer : put.layers) {
    if (layer.empty() || layer.size() > std::numeric_limits<uint32_t>::max()) {
      return BadPut("a layer has 1 byte to 4 GiB: size=" + std::to_string(layer.size()));
    }
  }
  return CheckOwner(put.owner);
}

// Ids are never given twice, so what exists now is what the caller saw.
Result<bool> KvCore::OwnerExists(const KvOwner& owner, uint64_t generation) const {
  const auto is_cleared = [&](const std::map<uint64_t, uint64_t>& cleared, uint64_t id) {
    const auto found = cleared.find(id);
    return found != cleared.end() && generation < found->second;
  };
  if (generation < all_cleared_ || is_cleared(collections_cleared_, owner.collection) ||
      is_cleared(models_cleared_, owner.model)) {
    return false;
  }
  const struct {
    uint64_t id;
    Family family;
    std::string key;
  } rows[] = {
      {owner.collection, Family::kCatalog, CollectionKey(owner.collection)},
      {owner.document, Family::kDocuments, DocumentKey(owner.document)},
      {owner.chunk, Family::kChunks, ChunkKey(owner.chunk)},
      {owner.model, Family::kCatalog, ModelKey(owner.model)},
  };
  for (const auto& row : rows) {
    if (row.id == 0) continue;
    INTARSIA_ASSIGN_OR_RETURN(const bool exists, options_.rocks->Exists(row.family, row.key));
    if (!exists) return false;
  }
  return true;
}

Result<KvPutOutcome> KvCore::Put(const KvPut& put) {
  INTARSIA_RETURN_IF_ERROR(CheckPut(put));
  const Lock append(append_mutex_);
  if (table_.Contains(put.identity)) {
    INTARSIA_ASSIGN_OR_RETURN(const bool is_owned,
                              AddOwner(put.identity, put.owner, put.generation));
    if (is_owned) return KvPutOutcome::kAlreadyStored;
  }
  int64_t num_bytes = 0;
  for (const std::string_view layer : put.layers) {
    num_bytes += KvAligned(static_cast<int64_t>(layer.size()));
  }
  {
    // So that nothing is evicted for it and none of its bytes are written behind the deletion: who
    // compacts after a deletion finds all that was appended before it.
    const Lock commit(*options_.commit_mutex);
    INTARSIA_ASSIGN_OR_RETURN(const bool exists, OwnerExists(put.owner, put.generation));
    if (!exists) return KvPutOutcome::kOwnerGone;
  }
  INTARSIA_ASSIGN_OR_RETURN(const bool has_room, MakeRoom(num_bytes));
  if (!has_room) return KvPutOutcome::kOverBudget;
  Result<KvSegments::Placed> placed = segments_->Append(put.layers);
  if (!placed.ok()) {
    RemoveEmptySegments();  // The one that was begun, if nothing else lies in it.
    return std::move(placed).status();
  }
  auto entry = std::make_shared<KvEntry>();
  entry->identity = put.identity;
  entry->shape = put.shape;
  entry->segment = placed->segment;
  entry->extents = std::move(placed->extents);
  return Commit(put, std::move(entry));
}

Result<bool> KvCore::AddOwner(const Digest& identity, const KvOwner& owner, uint64_t generation) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  INTARSIA_RETURN_IF_ERROR(CheckOwner(owner));
  const Lock commit(*options_.commit_mutex);
  INTARSIA_ASSIGN_OR_RETURN(const bool exists, OwnerExists(owner, generation));
  if (!exists || !table_.Contains(identity)) return false;
  RowBatch batch(options_.rocks);
  AddKvOwner(identity, owner, &batch);
  INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kBuffer));
  return true;
}

Result<bool> KvCore::IsOwner(const Digest& identity, const KvOwner& owner) const {
  return options_.rocks->Exists(Family::kKvRefs, KvChunkKey(identity, owner));
}

Result<KvPutOutcome> KvCore::Commit(const KvPut& put, std::shared_ptr<const KvEntry> entry) {
  const Lock commit(*options_.commit_mutex);
  INTARSIA_ASSIGN_OR_RETURN(const bool exists, OwnerExists(put.owner, put.generation));
  if (!exists) return KvPutOutcome::kOwnerGone;  // The extents are dead.
  RowBatch batch(options_.rocks);
  batch.Put(Family::kKvIndex, KvEntryKey(put.identity), EncodeKvEntry(*entry));
  batch.Put(Family::kKvIndex, KvNextSegmentKey(), EncodeNumber(segments_->next_number()));
  const KvUseRecord use = table_.NewUse(put.owner.collection);
  batch.Put(Family::kKvIndex, KvUseKey(put.identity), EncodeKvUse(use));
  AddKvOwner(put.identity, put.owner, &batch);
  StageUses(&batch);
  INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kBuffer));
  // What was there is too old, or Put would have found it.
  num_expirations_ += RemoveFromTable(put.identity);
  table_.InsertAll({KvTable::SlotFor(std::move(entry), use)});
  ++num_puts_;
  return KvPutOutcome::kStored;
}

void KvCore::StageUses(RowBatch* batch) {
  for (const auto& [identity, use] : table_.TakeDirty()) {
    batch->Put(Family::kKvIndex, KvUseKey(identity), EncodeKvUse(use));
  }
}

Result<bool> KvCore::MakeRoom(int64_t num_bytes) {
  const int64_t budget = bytes_max_.load();
  // A segment that is begun for it brings a header.
  const int64_t needed = num_bytes + kKvAlignment;
  if (needed > budget) return false;
  if (live_bytes() + needed > budget) INTARSIA_RETURN_IF_ERROR(DropExpired().status());
  if (live_bytes() + needed > budget) {
    // An eighth at once, so that neither eviction nor compaction runs for every Put.
    INTARSIA_RETURN_IF_ERROR(Evict(std::max<int64_t>(0, budget / 8 * 7 - needed)).status());
    if (live_bytes() + needed > budget) return false;
  }
  while (segments_->disk_bytes() + needed > budget) {
    INTARSIA_ASSIGN_OR_RETURN(const bool is_freed, CompactDeadest());
    if (!is_freed) return false;
  }
  return true;
}

Result<bool> KvCore::CompactDeadest() {
  const std::map<uint64_t, KvTable::SegmentUse> uses = table_.SegmentUses();
  uint64_t deadest = 0;
  int64_t most_dead_bytes = 0;
  for (const auto& [number, file_bytes] : segments_->FileBytes()) {
    const auto use = uses.find(number);
    const int64_t live = use == uses.end() ? 0 : use->second.live_bytes;
    if (const int64_t dead = file_bytes - kKvAlignment - live; dead > most_dead_bytes) {
      most_dead_bytes = dead;
      deadest = number;
    }
  }
  if (deadest == 0) return false;
  INTARSIA_ASSIGN_OR_RETURN(const int64_t freed, CompactSegment(deadest));
  return freed > 0;
}

Result<KvShrunk> KvCore::Shrink(const CancelToken* cancel) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const int64_t disk_bytes_before = segments_->disk_bytes();
  KvShrunk report;
  for (bool is_freed = true; is_freed;) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    const Lock append(append_mutex_);  // Let go between segments, so that Puts get on.
    const int64_t budget = bytes_max_.load();
    if (segments_->disk_bytes() <= budget) break;
    // Each round, because smaller segments have more headers.
    if (live_bytes() > budget) {
      INTARSIA_ASSIGN_OR_RETURN(const int64_t num_expired, DropExpired());
      INTARSIA_ASSIGN_OR_RETURN(const int64_t num_evicted, Evict(budget));
      report.num_removed += num_expired + num_evicted;
    }
    if (segments_->disk_bytes() <= budget) break;
    INTARSIA_ASSIGN_OR_RETURN(is_freed, CompactDeadest());
  }
  const int64_t disk_bytes = segments_->disk_bytes();
  report.bytes_freed = std::max<int64_t>(0, disk_bytes_before - disk_bytes);
  report.bytes_above = std::max<int64_t>(0, disk_bytes - bytes_max_.load());
  return report;
}

Result<int64_t> KvCore::Evict(int64_t live_bytes_goal) {
  struct Candidate {
    double worth;
    Digest identity;
  };
  std::vector<Candidate> candidates;
  const uint64_t now = table_.clock();
  for (const KvTable::Unused& row : table_.ListUnused()) {
    const double worth = options_.policy->Worth({.last_use = row.use.last_use,
                                                 .now = std::max(now, row.use.last_use),
                                                 .num_uses = row.use.num_uses,
                                                 .num_bytes = row.disk_bytes});
    candidates.push_back({worth, row.identity});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.worth, a.identity) < std::tie(b.worth, b.identity);
  });
  std::vector<Digest> worst_first;
  for (const Candidate& row : candidates) worst_first.push_back(row.identity);
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_dropped, DropUnused(worst_first, live_bytes_goal));
  num_evictions_ += num_dropped;
  return num_dropped;
}

Result<int64_t> KvCore::DropUnused(const std::vector<Digest>& identities, int64_t live_bytes_goal) {
  const Lock commit(*options_.commit_mutex);
  RowBatch batch(options_.rocks);
  KvRefRemoval removal(options_.rocks, &batch);
  int64_t num_dropped = 0;
  for (const Digest& identity : identities) {
    if (live_bytes() <= live_bytes_goal) break;
    // First out of memory, so that nobody can take it up any more. If the write fails, the next
    // Open finds the entry again or, with its segment gone, drops it.
    if (!table_.RemoveUnused(identity)) continue;
    memory_.Remove(identity);
    ++num_dropped;
    INTARSIA_RETURN_IF_ERROR(removal.RemoveEntry(identity));
  }
  INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kBuffer));
  RemoveEmptySegments();
  return num_dropped;
}

Result<int64_t> KvCore::Compact(double dead_share_min) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  if (!(dead_share_min > 0.0 && dead_share_min <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  "the share of dead bytes lies in (0, 1]: " + std::to_string(dead_share_min));
  }
  int64_t bytes_freed = 0;
  for (const auto& [number, unused] : segments_->FileBytes()) {
    const Lock append(append_mutex_);  // Let go between segments, so that Puts get on.
    const std::map<uint64_t, int64_t> files = segments_->FileBytes();
    const auto file = files.find(number);
    if (file == files.end()) continue;
    const std::map<uint64_t, KvTable::SegmentUse> uses = table_.SegmentUses();
    const auto use = uses.find(number);
    const int64_t live = use == uses.end() ? 0 : use->second.live_bytes;
    const int64_t dead = file->second - kKvAlignment - live;
    const auto content = static_cast<double>(std::max<int64_t>(1, file->second - kKvAlignment));
    if (live > 0 && static_cast<double>(dead) < dead_share_min * content) continue;
    INTARSIA_ASSIGN_OR_RETURN(const int64_t freed, CompactSegment(number));
    bytes_freed += freed;
  }
  return bytes_freed;
}

Result<int64_t> KvCore::CompactSegment(uint64_t number) {
  if (segments_->active() == number) segments_->CloseActive();
  const std::vector<std::shared_ptr<const KvEntry>> entries = table_.EntriesOf(number);
  int64_t bytes_freed = segments_->FileBytes()[number];
  if (!entries.empty()) {
    const Result<std::shared_ptr<const RandomAccessFile>> file = segments_->Reader(number);
    for (const std::shared_ptr<const KvEntry>& entry : entries) {
      if (!file.ok()) {
        if (const auto slot = table_.SlotOf(*entry)) Quarantine(*slot, file.status());
        continue;
      }
      INTARSIA_RETURN_IF_ERROR(MoveEntry(*entry, **file));
      bytes_freed -= entry->disk_bytes();
    }
    INTARSIA_RETURN_IF_ERROR(segments_->Sync());
  }
  RemoveEmptySegments();
  return bytes_freed;
}

Status KvCore::MoveEntry(const KvEntry& entry, const RandomAccessFile& file) {
  std::vector<std::string> payloads;
  std::vector<std::string_view> layers;
  for (const KvExtent& extent : entry.extents) {
    std::string payload(static_cast<size_t>(extent.num_bytes), '\0');
    Status status = file.ReadAt(extent.offset, extent.num_bytes, payload.data());
    if (status.ok() && ChecksumOf(payload) != extent.checksum) {
      status = Status(StatusCode::kCorruption,
                      "checksum mismatch: segment=" + std::to_string(entry.segment) +
                          " offset=" + std::to_string(extent.offset));
    }
    if (!status.ok()) {
      if (const auto slot = table_.SlotOf(entry)) Quarantine(*slot, status);
      return Status::Ok();
    }
    payloads.push_back(std::move(payload));
  }
  layers.assign(payloads.begin(), payloads.end());
  INTARSIA_ASSIGN_OR_RETURN(KvSegments::Placed placed, segments_->Append(layers));
  auto moved = std::make_shared<KvEntry>(entry);
  moved->segment = placed.segment;
  moved->extents = std::move(placed.extents);

  const Lock commit(*options_.commit_mutex);
  // Deleted, and the copy is dead. An entry that is too old lies here all the same, and moves.
  if (table_.SlotOf(entry) == nullptr) return Status::Ok();
  RowBatch batch(options_.rocks);
  batch.Put(Family::kKvIndex, KvEntryKey(entry.identity), EncodeKvEntry(*moved));
  batch.Put(Family::kKvIndex, KvNextSegmentKey(), EncodeNumber(segments_->next_number()));
  INTARSIA_RETURN_IF_ERROR(options_.rocks->Write(&batch, Durability::kBuffer));
  table_.Relocate(&entry, std::move(moved));
  return Status::Ok();
}

}  // namespace intarsia::storage
