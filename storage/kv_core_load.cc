// KvCore::Load: the entries of an opened database, from their rows into the table in memory.
//
// Identities are digests, so ranges of their first byte hold equally many entries and are read
// beside each other.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/thread_pool.h"
#include "storage/kv_core.h"

namespace intarsia::storage {
namespace {

// Ranges of fewer rows than this are not worth a thread.
constexpr int64_t kRowsPerRange = 8'192;
constexpr int64_t kRangesMax = 64;
// More threads would wait for each other at the table.
constexpr int64_t kThreadsMax = 8;
// An estimate may be wrong, and costs a pointer an entry.
constexpr int64_t kReservedMax = 1 << 23;
// Entries that come into the table at once.
constexpr size_t kSlotsPerInsertion = 512;

Status Missing(std::string_view why) {
  return Status(StatusCode::kNotFound, "no kv cache: " + std::string(why));
}

// Why an entry cannot be served from the segments, given by their sizes, or OK.
Status CheckExtents(const KvEntry& entry, const std::map<uint64_t, int64_t>& files) {
  const auto file = files.find(entry.segment);
  if (file == files.end()) return Missing("its segment is gone");
  if (entry.extents.empty()) return Missing("it has no layers");
  for (const KvExtent& extent : entry.extents) {
    if (extent.offset + extent.num_bytes > file->second) {
      return Missing("its segment is too short");
    }
  }
  return Status::Ok();
}

// The use of an entry. Both kinds of rows are sorted by identity, so `row` only moves on. An entry
// whose row is missing or damaged counts as never used.
Result<KvUseRecord> UseOf(const Digest& identity, RowCursor* row) {
  for (; row->Valid(); row->Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Digest other, IdentityInKey(row->key()));
    if (other < identity) continue;
    if (other != identity) break;
    const Result<std::string_view> body = row->Body();
    Result<KvUseRecord> use = body.ok() ? DecodeKvUse(*body) : body.status();
    return use.ok() ? *use : KvUseRecord();
  }
  INTARSIA_RETURN_IF_ERROR(row->status());
  return KvUseRecord();
}

// Where range `index` of `num_ranges` of the rows `kind` begins; the last ends where the next kind
// begins. REQUIRES: num_ranges <= 256.
std::string BeginOfRange(char kind, int64_t index, int64_t num_ranges) {
  if (index == 0) return std::string(1, kind);
  if (index == num_ranges) return KeyAfterPrefix(std::string(1, kind));
  return std::string(1, kind) + static_cast<char>(index * 256 / num_ranges);
}

}  // namespace

Status KvCore::Load() {
  Status status = LoadEntries();
  if (status.code() == StatusCode::kCorruption) {
    // What RocksDB itself cannot read any more. All of it can be computed again.
    Log(LogLevel::kWarning, "all kv caches dropped: " + status.ToString());
    ++num_quarantines_;
    for (const Digest& identity : table_.ListIdentities()) table_.Remove(identity);
    status = Status::Ok();
    if (!options_.is_read_only) {
      INTARSIA_RETURN_IF_ERROR(options_.rocks->Recreate(Family::kKvIndex));
      INTARSIA_RETURN_IF_ERROR(options_.rocks->Recreate(Family::kKvRefs));
    }
  }
  INTARSIA_RETURN_IF_ERROR(status);
  if (options_.is_read_only) return Status::Ok();
  RemoveEmptySegments();
  const std::map<uint64_t, int64_t> files = segments_->FileBytes();
  if (!files.empty() && files.rbegin()->second < SegmentBytesMax(bytes_max_.load())) {
    // If the last segment is damaged or the disk is full, the next Put starts another one.
    segments_->Resume(files.rbegin()->first).IgnoreError();
  }
  return Status::Ok();
}

Status KvCore::LoadEntries() {
  // Two rows an entry, one of it and one of its use.
  const int64_t num_rows = options_.rocks->EstimatedRows(Family::kKvIndex);
  table_.Reserve(std::min(num_rows / 2, kReservedMax));
  const int64_t num_ranges = std::clamp<int64_t>(num_rows / kRowsPerRange, 1, kRangesMax);
  std::vector<LoadedRange> ranges(static_cast<size_t>(num_ranges));
  const std::map<uint64_t, int64_t> files = segments_->FileBytes();
  const auto load = [&](int64_t index, int) {
    LoadedRange& range = ranges[static_cast<size_t>(index)];
    range.status = LoadRange(index, num_ranges, files, &range);
  };
  if (num_ranges == 1) {
    load(0, 0);
  } else {
    const int num_threads = static_cast<int>(std::clamp<int64_t>(
        std::thread::hardware_concurrency(), 1, std::min(kThreadsMax, num_ranges)));
    ThreadPool(num_threads).ParallelFor(num_ranges, load);
  }

  RowBatch batch(options_.rocks);
  KvRefRemoval removal(options_.rocks, &batch);
  int64_t num_dropped = 0;
  Status first_cause;
  for (const LoadedRange& range : ranges) {
    INTARSIA_RETURN_IF_ERROR(range.status);
    segments_->ReserveNumbersBelow(range.segments_end);
    // One line for all of them: a directory that lost its segments has thousands.
    if (num_dropped == 0) first_cause = range.first_cause;
    num_dropped += std::ssize(range.dropped);
    for (const Digest& identity : range.dropped) {
      INTARSIA_RETURN_IF_ERROR(removal.RemoveEntry(identity));
    }
  }
  if (num_dropped > 0) {
    num_quarantines_ += num_dropped;
    Log(LogLevel::kWarning, "kv caches dropped: " + std::to_string(num_dropped) +
                                ", the first: " + first_cause.ToString());
  }

  INTARSIA_RETURN_IF_ERROR(LoadRetentions(&batch));

  if (const auto body = options_.rocks->Get(Family::kKvIndex, KvNextSegmentKey(), nullptr);
      body.ok()) {
    if (const auto next = DecodeNumber(*body); next.ok()) segments_->ReserveNumbersBelow(*next);
  }
  return options_.is_read_only ? Status::Ok() : options_.rocks->Write(&batch, Durability::kBuffer);
}

Status KvCore::LoadRange(int64_t index, int64_t num_ranges,
                         const std::map<uint64_t, int64_t>& files, LoadedRange* range) {
  const auto scan = [&](char kind) {
    return options_.rocks->ScanOnce(Family::kKvIndex, BeginOfRange(kind, index, num_ranges),
                                    BeginOfRange(kind, index + 1, num_ranges));
  };
  RowCursor use_row = scan('u');
  std::vector<std::shared_ptr<KvSlot>> slots;
  RowCursor row = scan('e');
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(row.key()));
    const Result<std::string_view> body = row.Body();
    Result<KvEntry> entry = body.ok() ? DecodeKvEntry(identity, *body) : body.status();
    Status status = entry.status();
    if (status.ok()) {
      range->segments_end = std::max(range->segments_end, entry->segment + 1);
      status = CheckExtents(*entry, files);
    }
    if (!status.ok()) {
      if (range->dropped.empty()) {
        range->first_cause =
            Status(status.code(), std::string(status.message()) + ": identity=" + identity.ToHex());
      }
      range->dropped.push_back(identity);
      continue;
    }
    INTARSIA_ASSIGN_OR_RETURN(KvUseRecord use, UseOf(identity, &use_row));
    if (use.stored_at == 0) INTARSIA_RETURN_IF_ERROR(CompleteUse(identity, &use));
    slots.push_back(KvTable::SlotFor(std::make_shared<const KvEntry>(*std::move(entry)), use));
    if (slots.size() < kSlotsPerInsertion) continue;
    table_.InsertAll(std::move(slots));
    slots.clear();
  }
  table_.InsertAll(std::move(slots));
  return row.status();
}

Status KvCore::LoadRetentions(RowBatch* batch) {
  RowCursor row = options_.rocks->ScanPrefix(Family::kKvIndex, "p", nullptr);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Digest identity, IdentityInKey(row.key()));
    const Result<std::string_view> body = row.Body();
    const Result<uint64_t> number = body.ok() ? DecodeNumber(*body) : body.status();
    const std::optional<KvTable::Retained> cache = table_.Look(identity);
    const bool is_known = number.ok() && *number <= static_cast<uint64_t>(KvRetention::kInMemory);
    if (!cache.has_value() || !is_known) {
      batch->Delete(Family::kKvIndex, row.key());
      if (!cache.has_value()) continue;
      Log(LogLevel::kWarning,
          "a kv cache is not pinned any more, its row is damaged: identity=" + identity.ToHex());
      continue;
    }
    const auto retention = static_cast<KvRetention>(*number);
    table_.SetRetention(identity, retention);
    if (retention == KvRetention::kInMemory) memory_.Retain(*cache->entry);
  }
  return row.status();
}

Status KvCore::CompleteUse(const Digest& identity, KvUseRecord* use) const {
  use->stored_at = options_.clock->NowSeconds();
  const std::string prefix = KvOwnersPrefix(identity) + 'd';
  RowCursor row = options_.rocks->ScanPrefix(Family::kKvRefs, prefix, nullptr);
  if (row.Valid() && row.key().size() >= prefix.size() + sizeof(CollectionId)) {
    use->collection = IdInKey(row.key(), prefix.size());
  }
  return row.status();
}

}  // namespace intarsia::storage
