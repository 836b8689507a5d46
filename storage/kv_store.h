// KvStore: the attention KV caches of chunks, on disk, found by the identity of what they hold.
//
// The bytes lie in segment files, one extent per layer, so that layer l + 1 can be read while
// layer l is computed. An entry in RocksDB names the extents and makes them visible; it is written
// after them. KV caches are derived data, so whatever is missing, torn or damaged is a miss:
//   1. ReadLayer returns exactly the bytes that were put, or an error; never anything else.
//   2. An entry is visible only with all its extents written, its owners and its checksums.
//   3. What a deletion removed cannot come back through a Put or a ReadLayer that began before it.
//   4. The files stay within `kv_bytes_max`, but for less than 1 % while space is reclaimed.
//
// Thread safety: thread-safe. Reads run beside writes, deletions, eviction and compaction.
// Lifetime: belongs to its Database; a KvHandle must be gone before the Database is.
// Format: docs/formats/kv_segments.md
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/async_reader.h"
#include "base/cancel.h"
#include "base/hash.h"
#include "base/memory_source.h"
#include "base/result.h"
#include "storage/ids.h"

namespace intarsia::storage {

class KvCore;
struct KvPin;

struct KvShape {
  int64_t num_layers = 0;
  int64_t num_tokens = 0;
  uint32_t quantizer = 0;  // The engine's number for how the payload is coded.

  bool operator==(const KvShape&) const = default;
};

// Whom an entry belongs to. With a chunk, the entry goes when its last chunk goes; it always goes
// when its model goes. 0 means "not bound to one", for example a prompt header that has no chunk.
struct KvOwner {
  CollectionId collection = 0;
  DocumentId document = 0;
  ChunkId chunk = 0;
  ModelId model = 0;

  bool operator==(const KvOwner&) const = default;
};

struct KvPut {
  Digest identity;
  KvShape shape;
  std::span<const std::string_view> layers;  // [num_layers] payloads, each 1 byte to 4 GiB.
  KvOwner owner;
  // KvStore::generation() before the work that led to `layers` began.
  uint64_t generation = 0;
};

enum class KvPutOutcome : uint8_t {
  kStored,
  kAlreadyStored,  // The identity was there; `owner` owns it too now.
  kOwnerGone,      // The owner was deleted, or its caches were, since `generation`.
  kOverBudget,     // Larger than the budget, or everything else is in use.
};

// How long a cache stays when space is short. Stored as these numbers.
enum class KvRetention : uint8_t {
  kEvictable = 0,  // As long as it is worth more than what needs its space.
  kOnDisk = 1,     // Until it is deleted.
  kInMemory = 2,   // Until it is deleted, and in memory as soon as it was read once.
};

// What KvStore::Retain did.
struct KvRetained {
  int64_t num_changed = 0;    // Caches that have another retention now.
  int64_t num_unchanged = 0;  // Caches that had it before.
  int64_t num_missing = 0;    // Chunks without a cache.
  int64_t num_bytes = 0;      // Of the payload of all these caches.
};

// An entry in use: eviction leaves it alone while a handle lives, and compaction leaves it
// readable. Move-only. Thread safety: const calls may be concurrent.
class KvHandle {
 public:
  KvHandle() = default;  // Empty: valid() is false and nothing else may be called.
  explicit KvHandle(std::unique_ptr<KvPin> pin);
  ~KvHandle();
  KvHandle(KvHandle&& other) noexcept;
  KvHandle& operator=(KvHandle&& other) noexcept;

  bool valid() const { return pin_ != nullptr; }
  const Digest& identity() const;
  const KvShape& shape() const;
  // Bytes of one layer's payload. REQUIRES: 0 <= layer < shape().num_layers.
  int64_t layer_bytes(int64_t layer) const;
  // The same with what a read past the page cache brings beside it.
  int64_t DirectBytes(int64_t layer) const;
  int64_t total_bytes() const;
  // False once the entry was deleted or found damaged. Whoever copies it elsewhere asks again
  // after the copy is in place.
  bool is_live() const;

  const KvPin& pin() const { return *pin_; }

 private:
  std::unique_ptr<KvPin> pin_;
};

struct KvStats {
  int64_t num_entries = 0;
  int64_t live_bytes = 0;  // Of extents that an entry names, with their alignment.
  int64_t dead_bytes = 0;  // In the files, named by nobody; Compact() frees them.
  int64_t disk_bytes = 0;  // Of the files.
  int64_t bytes_max = 0;
  int64_t num_segments = 0;
  int64_t num_pins = 0;  // Handles in use; 0 when nobody reads.
  // Entries that are retained on disk or in memory, and what they take on disk.
  int64_t num_retained = 0;
  int64_t retained_bytes = 0;
  // Since the database was opened.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t puts = 0;
  int64_t evictions = 0;
  int64_t expirations = 0;  // Entries dropped because they were older than their collection allows.
  int64_t quarantines = 0;  // Entries dropped because their bytes were missing or wrong.
};

// What KvStore::Shrink did.
struct KvShrunk {
  int64_t num_removed = 0;  // Entries.
  int64_t bytes_freed = 0;  // Of the files.
  int64_t bytes_above = 0;  // What the files still take beyond the budget.
};

// What the caches on disk take and may take.
struct KvSpace {
  int64_t live_bytes = 0;  // As in KvStats.
  int64_t bytes_max = 0;
};

// The caches that are held in memory beside the disk.
struct KvMemoryStats {
  int64_t num_entries = 0;
  int64_t num_bytes = 0;
  int64_t bytes_max = 0;
  int64_t source_bytes = 0;  // Of num_bytes, in memory of SetMemorySource.
  int64_t num_pins = 0;      // Entries in use.
  // Entries that are retained in memory, and what they take there; not all need be held yet.
  int64_t num_retained = 0;
  int64_t retained_bytes = 0;
  // Since the database was opened.
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t admissions = 0;
  int64_t evictions = 0;
};

// What the caches of one collection or model take.
struct KvUsage {
  int64_t num_entries = 0;
  int64_t num_bytes = 0;
  int64_t num_retained = 0;
  int64_t retained_bytes = 0;
};

struct KvCompactOptions {
  // Segments with at least this share of dead bytes are rewritten, in (0, 1].
  double dead_share_min = 0.5;
};

class KvStore {
 public:
  explicit KvStore(std::unique_ptr<KvCore> core);
  ~KvStore();
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;

  // Grows with every deletion by collection, document, model or all. See KvPut::generation.
  uint64_t generation() const;

  // Stores an entry, evicting others first if the budget asks for it. The bytes are not synced:
  // after a power failure the entry may be a miss.
  // Errors: kInvalidArgument, kUnsupported if read-only, kResourceExhausted if the disk is full,
  // kIo; after an error nothing is visible and the store stays usable. Blocks on the disk.
  Result<KvPutOutcome> Put(const KvPut& put);

  // Has `owner` own an entry that is there, beside its other owners; `generation` as in KvPut.
  // Returns false if there is no such entry or the owner is gone.
  // Errors: kInvalidArgument, kUnsupported if read-only, kIo. Blocks on commits.
  Result<bool> AddOwner(const Digest& identity, const KvOwner& owner, uint64_t generation);
  // Whether the chunk of `owner` owns the entry. Errors: kIo.
  Result<bool> IsOwner(const Digest& identity, const KvOwner& owner) const;

  // Finds an entry and counts its use. Errors: kNotFound. Does not touch the disk, but to open a
  // segment for the first time.
  Result<KvHandle> Find(const Digest& identity);

  // Whether Find would succeed; counts nothing.
  bool Contains(const Digest& identity) const;

  // Reads layer `layer` into `target` and verifies its checksum. Layers that are read in their
  // order by one handle are one sequence of bytes, for which the system reads ahead. Errors:
  // kNotFound if the entry was deleted meanwhile, or if its bytes are missing or wrong, which
  // removes the entry; kInvalidArgument if `layer` or the size of `target`, which is
  // layer_bytes(layer), is wrong; kIo. `target` holds garbage after an error.
  Status ReadLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target);

  // Begins to read a layer from the disk beside the caller, into `target`, which has room for
  // DirectBytes(layer) and begins at a multiple of AsyncReader::kAlignment. False if there is
  // nothing to gain, because the layer lies in memory or the page cache, or if the files do not
  // allow it: nothing was begun then, and ReadLayer reads it.
  // REQUIRES: !reader->is_full(). The handle and the memory outlive the read.
  bool StartLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target,
                  AsyncReader* reader, int64_t tag);

  // Verifies what a read that StartLayer began has brought, `num_read` bytes; reads the layer again
  // if that is not it. `target` has layer_bytes(layer). Errors: those of ReadLayer.
  Status FinishLayer(const KvHandle& handle, int64_t layer, std::span<uint8_t> target,
                     int64_t num_read);

  // Deletions return the number of entries that went. An entry with owners elsewhere stays theirs.
  // Errors: kUnsupported if read-only, kIo.
  Result<int64_t> DeleteByDocument(CollectionId collection, DocumentId document);
  Result<int64_t> DeleteByCollection(CollectionId collection);
  Result<int64_t> DeleteByModel(ModelId model);
  Result<int64_t> DeleteAll();

  // Bytes that compaction gave back to the file system. Errors: kUnsupported if read-only, kIo,
  // kResourceExhausted; what was reclaimed before stays reclaimed.
  Result<int64_t> Compact(const KvCompactOptions& options);

  // Gives all caches of the chunks this retention, durably; after an error none has it. What is
  // retained counts against the budgets. A retention goes with its cache.
  // Errors: kResourceExhausted if the retained caches would not fit into a budget; kUnsupported if
  // read-only, kInvalidArgument for an owner that is no chunk, kIo.
  Result<KvRetained> Retain(std::span<const KvOwner> chunks, KvRetention retention);

  // Reads the caches that are retained in memory and not there yet. `cancel` may be null.
  // Errors: kCancelled, kIo. Blocks on the disk.
  Status LoadRetained(const CancelToken* cancel);

  // Entries of the collection are absent once they were stored `ttl_seconds` ago; 0: never. An
  // entry that is retained does not grow old. Not stored: to be set after each Open.
  void SetTtl(CollectionId collection, int64_t ttl_seconds);
  // Removes what is too old and not in use; returns how many went. Their space is dead until
  // Compact. Errors: kUnsupported if read-only, kIo.
  Result<int64_t> DropExpired();

  // Changes the budget; a smaller one takes effect with Shrink or the next Put.
  // Errors: kResourceExhausted if it is below what is retained. REQUIRES: bytes_max >= 0.
  Status SetBudget(int64_t bytes_max);

  // Brings the files within the budget now, as far as what is retained or in use allows: removes
  // what is too old, then what is worth least, and compacts. `cancel` may be null; it is looked at
  // after each segment. Errors: kCancelled, kUnsupported if read-only, kIo, kResourceExhausted;
  // what was removed before stays removed. Blocks on the disk.
  Result<KvShrunk> Shrink(const CancelToken* cancel);

  // Changes the budget of memory; takes effect at once. Errors and REQUIRES: as SetBudget.
  Status SetMemoryBudget(int64_t bytes_max);

  // What comes into memory from now on lies in blocks of `source`, as far as that has any, for
  // example where a device copies from by itself; null: in ordinary memory.
  void SetMemorySource(std::shared_ptr<MemorySource> source);
  // Where a layer lies in such memory, with its checksum verified; null if it does not, or until
  // all layers of the entry do. Valid as long as the handle, also if the entry goes meanwhile.
  // REQUIRES: 0 <= layer < num_layers.
  const uint8_t* LayerInSource(const KvHandle& handle, int64_t layer) const;

  KvStats stats() const;
  // Two numbers of stats(), for whoever asks often: does not look through the files.
  KvSpace space() const;
  KvMemoryStats memory_stats() const;
  Result<KvUsage> UsageOfCollection(CollectionId collection) const;

  KvCore* core() { return core_.get(); }  // For storage/ itself.

 private:
  std::unique_ptr<KvCore> core_;
};

}  // namespace intarsia::storage
