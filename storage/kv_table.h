// KvTable: the entries of a KvStore in memory: where each lies, how often it was used, who uses it.
//
// It answers lookups without the disk and keeps the books: live bytes per segment, pins, uses.
//
// Thread safety: thread-safe; the members of a KvSlot are the table's, but for is_live.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "storage/kv_entry.h"
#include "storage/record_codec.h"

namespace intarsia::storage {

struct KvSlot {
  std::shared_ptr<const KvEntry> entry;
  KvUseRecord use;
  int64_t num_pins = 0;
  KvRetention retention = KvRetention::kEvictable;
  bool is_dirty = false;            // `use` has changed since it was written.
  std::atomic<bool> is_live{true};  // False for good once the entry left the table.
};

class KvTable {
 public:
  // The clock outlives the table.
  explicit KvTable(const Clock* clock) : clock_of_day_(clock) {}

  // Entries of the collection that were stored longer ago are absent for all who ask for one, until
  // they are removed. 0: never. What is retained does not grow old.
  void SetTtl(CollectionId collection, int64_t ttl_seconds);
  // Those that are absent for that reason and that nobody uses.
  std::vector<Digest> ListExpired() const;

  // Room for so many entries.
  void Reserve(int64_t num_entries);
  static std::shared_ptr<KvSlot> SlotFor(std::shared_ptr<const KvEntry> entry,
                                         const KvUseRecord& use);
  // REQUIRES: none of the identities is in the table.
  void InsertAll(std::vector<std::shared_ptr<KvSlot>> slots);
  // As a new entry of the collection: stored and used once, now. Returns what stands for that in
  // the use row.
  KvUseRecord NewUse(CollectionId collection) const;
  bool Contains(const Digest& identity) const;

  struct Pinned {
    std::shared_ptr<KvSlot> slot;  // Null if there is no such entry.
    std::shared_ptr<const KvEntry> entry;
  };
  enum class Use : uint8_t { kCount, kIgnore };
  // Pins the entry until Unpin and counts a use, or not. Old entries are absent for kCount only.
  Pinned Pin(const Digest& identity, Use use);
  void Unpin(KvSlot* slot);
  // The slot of `entry` as long as it lies where it says, else null. Counts nothing.
  std::shared_ptr<KvSlot> SlotOf(const KvEntry& entry) const;
  // Where the entry lies now.
  std::shared_ptr<const KvEntry> EntryOf(const KvSlot& slot) const;

  // Returns whether the identity was there.
  bool Remove(const Digest& identity);
  // Removes the entry unless it is in use or retained; returns whether it did.
  bool RemoveUnused(const Digest& identity);
  // Removes the entry if `slot` is still it.
  bool RemoveSlot(const KvSlot& slot);
  // Puts `moved` in the place of `entry`; false if `entry` is not in the table any more.
  bool Relocate(const KvEntry* entry, std::shared_ptr<const KvEntry> moved);

  // An entry and how long it stays.
  struct Retained {
    std::shared_ptr<const KvEntry> entry;
    KvRetention retention = KvRetention::kEvictable;
  };
  std::optional<Retained> Look(const Digest& identity) const;
  // Nothing happens if the entry is not there.
  void SetRetention(const Digest& identity, KvRetention retention);
  std::vector<Digest> ListRetained(KvRetention retention) const;

  // The evictable entries that nobody uses now.
  struct Unused {
    Digest identity;
    KvUseRecord use;
    int64_t disk_bytes = 0;
  };
  std::vector<Unused> ListUnused() const;
  std::vector<std::shared_ptr<const KvEntry>> EntriesOf(uint64_t segment) const;
  std::vector<Digest> ListIdentities() const;

  // Live bytes by segment; a segment without entries is absent.
  struct SegmentUse {
    int64_t live_bytes = 0;
    int64_t num_entries = 0;
  };
  std::map<uint64_t, SegmentUse> SegmentUses() const;

  // The uses that changed since the last call.
  std::vector<std::pair<Digest, KvUseRecord>> TakeDirty();
  uint64_t clock() const;
  int64_t num_entries() const;
  int64_t num_segments() const;  // that have entries
  int64_t live_bytes() const;
  int64_t num_pins() const;
  // Of what is not evictable; bytes on disk.
  int64_t num_retained() const;
  int64_t retained_bytes() const;

 private:
  using Slots = std::unordered_map<Digest, std::shared_ptr<KvSlot>, DigestHash>;

  // These are called with mutex_ held.
  void Count(const KvEntry& entry, int64_t sign);
  void Erase(Slots::iterator found);
  bool IsExpired(const KvSlot& slot) const;
  void SetRetentionOf(KvSlot* slot, KvRetention retention);

  const Clock* const clock_of_day_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  Slots slots_;
  std::map<CollectionId, int64_t> ttls_;  // Those above 0.
  std::map<uint64_t, SegmentUse> segments_;
  std::vector<Digest> dirty_;
  uint64_t clock_ = 0;  // Uses so far.
  int64_t live_bytes_ = 0;
  int64_t num_pins_ = 0;
  int64_t num_retained_ = 0;
  int64_t retained_bytes_ = 0;
};

}  // namespace intarsia::storage
