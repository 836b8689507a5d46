// KvCore: what KvStore does: entries in RocksDB, extents in segments, the table in memory.
//
// Locks are taken in this order: append_mutex_ (who writes segments), the database's commit mutex
// (who writes RocksDB), then those inside KvTable and KvSegments.
//
// Thread safety: thread-safe, but for what says that the commit mutex is held.
// Lifetime: Rocks, the commit mutex, the file system and the policy outlive it.
// Format: docs/formats/kv_segments.md
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "storage/kv_eviction.h"
#include "storage/kv_memory.h"
#include "storage/kv_refs.h"
#include "storage/kv_segments.h"
#include "storage/kv_store.h"
#include "storage/kv_table.h"
#include "storage/rocks.h"

namespace intarsia::storage {

struct KvCoreOptions {
  Rocks* rocks = nullptr;
  std::mutex* commit_mutex = nullptr;
  FileSystem* file_system = nullptr;
  std::string directory;
  std::string uuid;  // 16 bytes.
  bool is_read_only = false;
  int64_t bytes_max = 0;
  int64_t memory_bytes_max = 0;
  int64_t segment_bytes_max = 0;
  const KvEvictionPolicy* policy = nullptr;
  const Clock* clock = nullptr;
};

class KvCore {
 public:
  // Loads the entries, drops those whose segments are missing or too short, and removes segments
  // that nobody names. Errors: kIo.
  static Result<std::unique_ptr<KvCore>> Open(const KvCoreOptions& options);
  KvCore(const KvCoreOptions& options, std::unique_ptr<KvSegments> segments);
  ~KvCore();

  // As in KvStore.
  uint64_t generation() const { return generation_.load(); }
  Result<KvPutOutcome> Put(const KvPut& put);
  Result<bool> AddOwner(const Digest& identity, const KvOwner& owner, uint64_t generation);
  Result<bool> IsOwner(const Digest& identity, const KvOwner& owner) const;
  Result<KvHandle> Find(const Digest& identity);
  bool Contains(const Digest& identity) const { return table_.Contains(identity); }
  // As Find, for whoever looks at the entry and does not use it: counts nothing.
  Result<KvHandle> Peek(const Digest& identity);
  std::vector<Digest> ListIdentities() const { return table_.ListIdentities(); }
  Status ReadLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target);
  bool StartLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag);
  Status FinishLayer(const KvPin& pin, int64_t layer, std::span<uint8_t> target, int64_t num_read);
  Result<int64_t> DeleteByDocument(CollectionId collection, DocumentId document);
  Result<int64_t> DeleteByCollection(CollectionId collection);
  Result<int64_t> DeleteByModel(ModelId model);
  Result<int64_t> DeleteAll();
  Result<int64_t> Compact(double dead_share_min);
  Result<KvRetained> Retain(std::span<const KvOwner> chunks, KvRetention retention);
  Status LoadRetained(const CancelToken* cancel);
  void SetTtl(CollectionId collection, int64_t ttl_seconds) {
    table_.SetTtl(collection, ttl_seconds);
  }
  Result<int64_t> DropExpired();
  Status SetBudget(int64_t bytes_max);
  Result<KvShrunk> Shrink(const CancelToken* cancel);
  Status SetMemoryBudget(int64_t bytes_max);
  // The caches of all owners below a prefix of storage/kv_refs.h. Errors: kIo, kCorruption.
  Result<std::set<Digest>> CachesBelow(const std::string& prefix) const;
  // Where the caches that are there lie: extents by the name of their segment, in order.
  std::map<std::string, std::vector<KvExtent>> LiveExtents() const;
  KvMemory* memory() { return &memory_; }
  KvStats stats() const;
  KvSpace space() const {
    return {.live_bytes = table_.live_bytes(), .bytes_max = bytes_max_.load()};
  }
  Result<KvUsage> UsageBelow(const std::string& prefix) const;

  void Unpin(KvSlot* slot) { table_.Unpin(slot); }

  // For the database's own commits: takes out of memory what a written batch removed.
  // The commit mutex is held. Returns how many there were.
  int64_t Forget(const std::set<Digest>& gone);

 private:
  Status Load();
  Status LoadEntries();
  // What LoadRange has found beside the entries that came into the table.
  struct LoadedRange {
    Status status;
    uint64_t segments_end = 0;  // One behind the highest segment that an entry names.
    std::vector<Digest> dropped;
    Status first_cause;
  };
  // Loads one of `num_ranges` parts of the entries, beside others. Errors: kCorruption, kIo.
  Status LoadRange(int64_t index, int64_t num_ranges, const std::map<uint64_t, int64_t>& files,
                   LoadedRange* range);
  // What the use row of an earlier program does not say: it counts as stored now.
  Status CompleteUse(const Digest& identity, KvUseRecord* use) const;
  // What the user wants to stay. Rows without an entry are dropped.
  Status LoadRetentions(RowBatch* batch);
  // A handle of a pinned entry. Errors: kNotFound.
  Result<KvHandle> HandleOf(KvTable::Pinned pinned, const Digest& identity, KvTable::Use use);
  // Takes an entry that left the table out of memory too.
  int64_t RemoveFromTable(const Digest& identity);
  // Removes the entries that nobody uses or retains, one after the other, until no more bytes live
  // than `live_bytes_goal`; returns how many went. Takes the commit mutex.
  Result<int64_t> DropUnused(const std::vector<Digest>& identities, int64_t live_bytes_goal);
  Status CheckWritable() const;
  // The entries of the chunks' caches; counts the chunks that have none. The commit mutex is held.
  Result<std::vector<KvTable::Retained>> CachesOf(std::span<const KvOwner> chunks,
                                                  int64_t* num_missing) const;
  // Whether all of them fit with this retention, beside what is retained already.
  Status CheckFits(const std::vector<KvTable::Retained>& caches, KvRetention retention) const;
  Status LoadOne(const Digest& identity);
  Status CheckPut(const KvPut& put) const;

  // Whether `owner` and its caches have not been deleted since `generation`. The commit mutex is
  // held.
  Result<bool> OwnerExists(const KvOwner& owner, uint64_t generation) const;
  Result<KvPutOutcome> Commit(const KvPut& put, std::shared_ptr<const KvEntry> entry);
  void StageUses(RowBatch* batch);
  // Keeps a verified layer in memory, if the entry is held there and still wanted.
  Status Keep(const KvPin& pin, int64_t layer, std::span<const uint8_t> payload);
  // The file to read the pinned entry's layers from.
  const RandomAccessFile& StreamOf(const KvPin& pin) const;
  // Removes the entry of `slot` from disk and memory, because its bytes are missing or wrong.
  void Quarantine(const KvSlot& slot, const Status& cause);
  // What the three deletions by owner share; `stage` fills the removal.
  template <typename Stage>
  Result<int64_t> Delete(const Stage& stage);

  // These are called with append_mutex_ held.
  // Makes `num_bytes` fit into the budget; false if that cannot be done.
  Result<bool> MakeRoom(int64_t num_bytes);
  // Compacts the segment with the most dead bytes; false if that freed nothing.
  Result<bool> CompactDeadest();
  // Removes what is worth least until no more bytes live than that, or all that is left is in use
  // or retained; returns how many went.
  Result<int64_t> Evict(int64_t live_bytes_goal);
  // Moves the entries of a segment elsewhere and removes it. Returns the bytes freed.
  Result<int64_t> CompactSegment(uint64_t number);
  Status MoveEntry(const KvEntry& entry, const RandomAccessFile& file);
  // What a segment may take under a budget of `bytes_max`.
  int64_t SegmentBytesMax(int64_t bytes_max) const;
  // Live bytes with the headers of their segments.
  int64_t live_bytes() const;

  // Removes the segments that hold no entry and take no appends.
  void RemoveEmptySegments();

  const KvCoreOptions options_;
  const std::unique_ptr<KvSegments> segments_;
  KvTable table_;
  KvMemory memory_;
  std::mutex append_mutex_;

  // Guarded by the commit mutex: the generation at which the caches of an owner were last deleted.
  std::map<CollectionId, uint64_t> collections_cleared_;
  std::map<ModelId, uint64_t> models_cleared_;
  uint64_t all_cleared_ = 0;

  std::atomic<int64_t> bytes_max_;
  std::atomic<uint64_t> generation_{1};
  std::atomic<int64_t> num_hits_{0};
  std::atomic<int64_t> num_misses_{0};
  std::atomic<int64_t> num_puts_{0};
  std::atomic<int64_t> num_evictions_{0};
  std::atomic<int64_t> num_expirations_{0};
  std::atomic<int64_t> num_quarantines_{0};
};

// What a KvHandle holds.
struct KvPin {
  KvPin(KvCore* owner, KvTable::Pinned pinned, std::shared_ptr<const RandomAccessFile> segment)
      : core(owner),
        slot(std::move(pinned.slot)),
        entry(std::move(pinned.entry)),
        file(std::move(segment)) {}
  ~KvPin() { core->Unpin(slot.get()); }
  KvPin(const KvPin&) = delete;
  KvPin& operator=(const KvPin&) = delete;

  KvCore* const core;
  const std::shared_ptr<KvSlot> slot;
  const std::shared_ptr<const KvEntry> entry;  // As found: its bytes stay readable in `file`.
  const std::shared_ptr<const RandomAccessFile> file;
  std::shared_ptr<KvMemoryEntry> memory;  // Null: every layer comes from the file.
  // The same segment, opened for this handle alone: the system reads ahead for each opening of a
  // file by itself, and the layers of one cache are one sequence of bytes. See
  // docs/decisions/0006-reading-caches.md. Set once by the first read; null: there is none.
  mutable std::once_flag stream_opened;
  mutable std::unique_ptr<RandomAccessFile> stream;
  // The same, past the page cache.
  mutable std::once_flag direct_opened;
  mutable std::unique_ptr<DirectFile> direct;
};

}  // namespace intarsia::storage
