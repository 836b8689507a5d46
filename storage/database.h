// Database: a directory that holds collections of documents, their chunks, vectors and KV caches.
//
// One process writes at a time, guarded by a lock that dies with it; any number of others may open
// the directory to read. Writes go through this class and are atomic and durable when they return;
// reads go through a ReadView. What a crash can lose is only what was not acknowledged, and if the
// disk loses more than that, Open says so instead of going on with less.
//
// Thread safety: thread-safe. Writes run one after another, reads beside them.
// Lifetime: outlives its ReadViews and KvHandles.
// Format: docs/formats/directory.md
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "storage/backup.h"
#include "storage/catalog.h"
#include "storage/chunk_indexer.h"
#include "storage/database_check.h"
#include "storage/document.h"
#include "storage/erasure.h"
#include "storage/kv_eviction.h"
#include "storage/kv_store.h"
#include "storage/read_view.h"

namespace intarsia::storage {

enum class AccessMode : uint8_t {
  kReadWrite,
  kReadOnly,  // Sees the state at Open, changes no byte and needs no lock.
};

enum class DamagedTail : uint8_t {
  kRefuse,  // Open fails with kCorruption if acknowledged commits are gone.
  // Open goes on with what is left and logs what went. For an operator who has no backup; the
  // shell's option --accept-loss.
  kDrop,
};

struct DatabaseOptions {
  AccessMode access = AccessMode::kReadWrite;
  DamagedTail damaged_tail = DamagedTail::kRefuse;
  // Said to whoever finds the directory locked.
  std::string program = "intarsia";
  // For segment files and FORMAT. RocksDB and the lock use the machine's own. Outlives the
  // database.
  FileSystem* file_system = FileSystem::Local();
  // Cache of RocksDB blocks, in bytes. Must be > 0.
  int64_t block_cache_bytes_max = int64_t{64} << 20;
  // Bytes of KV caches on disk, dead space included. 0 stores none.
  int64_t kv_bytes_max = int64_t{10} << 30;
  // Bytes of KV caches that are held in memory too. 0 holds none.
  int64_t kv_memory_bytes_max = 0;
  // A segment file is closed once it is larger; a 128th of the budget if that is less.
  int64_t kv_segment_bytes_max = int64_t{256} << 20;
  // The time of day, for what grows old. Outlives the database.
  const Clock* clock = Clock::System();
  // What keeps the postings of chunks; null keeps none. Outlives the database.
  const ChunkIndexer* chunk_indexer = nullptr;
  // Outlives the database.
  const KvEvictionPolicy* kv_eviction = KvEvictionPolicy::LeastRecentlyUsed();
};

class Database {
 public:
  // Opens the database in the directory `path`, creating it if the path is absent or empty and the
  // access is kReadWrite.
  // Errors: kUnavailable if another process writes to it, with its pid and program; kUnsupported if
  // a newer program wrote it; kInvalidArgument if the directory holds something else; kNotFound
  // if absent and read-only; kCorruption; kResourceExhausted; kIo.
  static Result<std::unique_ptr<Database>> Open(const std::string& path,
                                                const DatabaseOptions& options);
  explicit Database(std::unique_ptr<DatabaseCore> core);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  const std::string& path() const;
  AccessMode access() const;
  // Drawn when the directory was created; copies of the database have the same.
  std::array<uint8_t, 16> uuid() const;

  // The state after the last commit.
  ReadView Read() const;

  // The caches of chunks. Valid as long as this Database.
  KvStore* kv();

  // Writes. Errors of all, besides those named: kUnsupported if read-only, kResourceExhausted if
  // the disk is full, kIo, kCorruption. After an error nothing has changed.

  // Adds a model and returns its id; `model.id` is ignored.
  // Errors: kAlreadyExists for the name, kInvalidArgument for an empty or over-long one.
  Result<ModelId> CreateModel(const ModelInfo& model);
  // Replaces the record of `model.id`. Errors: kNotFound, kAlreadyExists for the name.
  Status UpdateModel(const ModelInfo& model);
  // Removes the model, its vectors in every collection and its KV caches. Errors: kNotFound.
  Status DropModel(ModelId id);

  // As CreateModel; also kInvalidArgument for two columns of one name or of an unknown type.
  Result<CollectionId> CreateCollection(const CollectionInfo& collection);
  // Replaces the record of `collection.id`. Errors: as CreateCollection, kNotFound.
  Status UpdateCollection(const CollectionInfo& collection);
  // Removes the collection with all that it holds. It is gone for readers at once; its documents
  // are removed piecemeal, by the next Open if this process ends meanwhile. Errors: kNotFound.
  Status DropCollection(CollectionId id);

  Status PutSetting(std::string_view name, std::string_view value);
  Status RemoveSetting(std::string_view name);  // No error if absent.

  // Adds documents in one commit, each replacing the one with the same source: its text, chunks,
  // vectors and KV caches go. Returns one row per document. A batch costs one sync, so larger
  // batches load faster; it is held in memory twice.
  // Errors: kNotFound for the collection or a model; kInvalidArgument for text that is not UTF-8, a
  // chunk outside its text, chunks with another dimension than the model's vectors before, two
  // documents with one source.
  Result<std::vector<StoredDocument>> PutDocuments(CollectionId collection,
                                                   std::span<const NewDocument> documents);

  // Removes documents with their chunks, vectors and KV caches in one commit; ids that do not exist
  // are passed over. Returns how many existed.
  Result<int64_t> DeleteDocuments(std::span<const DocumentId> ids);

  struct ChunkVector {
    ChunkId chunk = 0;
    std::vector<float> values;
  };

  // Adds or replaces vectors of `model`, for a change of the embedding model; chunks that are not
  // in the collection are passed over. Returns how many were written. Errors: as PutDocuments.
  Result<int64_t> PutVectors(CollectionId collection, ModelId model,
                             std::span<const ChunkVector> rows);

  // Builds the postings of a collection from its chunks, whether or not they are current. Other
  // writes wait meanwhile; after a crash in the middle they are stale, as before.
  // Errors: kNotFound, kUnsupported without a chunk_indexer, kCancelled, the indexer's.
  Status RebuildPostings(CollectionId collection, const CancelToken* cancel);

  // Walks everything that the database holds; what is wrong with it is in the report and no error.
  // Errors: kUnsupported for a repair of a database that is read-only, kCancelled, kIo; a repair
  // that was cancelled or failed has changed nothing, but that tables of vectors and postings that
  // cannot be read are emptied, and text indexes built anew.
  Result<CheckReport> Check(const CheckOptions& options);

  // Backs the database up into the directory `target` while it is in use.
  // Errors: kUnsupported if read-only; kAlreadyExists if `target` holds something; kInvalidArgument
  // for a target inside the database or a base of another one; kNotFound for a base that is none;
  // kCancelled, kResourceExhausted, kIo. After an error nothing of it is left in `target`.
  Result<BackupReport> BackUp(const std::string& target, const BackupOptions& options);

  // Returns the space of deleted rows to the file system, the segments' too, and that of caches
  // that are too old. Returns the bytes freed. Blocks for long on a large database.
  Result<int64_t> Compact();

  // As DeleteDocuments, then rewrites every file that held the documents, and searches all files of
  // the directory for what is left of their texts and KV caches.
  // Errors, besides those of DeleteDocuments: kUnavailable if something is left, with the name of
  // the file: the documents are deleted then; kCancelled, before or behind the deletion, as the
  // message says. Blocks for as long as reading and writing the whole database takes.
  Result<EraseReport> Erase(std::span<const DocumentId> ids, const EraseOptions& options);

 private:
  Status CheckWritable() const;

  std::unique_ptr<DatabaseCore> core_;
};

}  // namespace intarsia::storage
