#include "storage/database.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/commit.h"
#include "storage/database_core.h"
#include "storage/kv_core.h"
#include "storage/rocks_current.h"

namespace intarsia::storage {
namespace {

// Documents that one commit removes while a collection is dropped.
constexpr int64_t kPurgeBatch = 256;

Status ValidateOptions(const DatabaseOptions& options) {
  if (options.file_system == nullptr || options.kv_eviction == nullptr ||
      options.block_cache_bytes_max <= 0 || options.kv_bytes_max < 0 ||
      options.kv_memory_bytes_max < 0 || options.kv_segment_bytes_max <= 0) {
    return Status(StatusCode::kInvalidArgument,
                  "bad options for a database: block_cache_bytes_max=" +
                      std::to_string(options.block_cache_bytes_max) +
                      " kv_bytes_max=" + std::to_string(options.kv_bytes_max) +
                      " kv_segment_bytes_max=" + std::to_string(options.kv_segment_bytes_max));
  }
  return Status::Ok();
}

Result<DirectoryFormat> ReadFormat(FileSystem* file_system, const std::string& directory) {
  const std::string path = directory + "/FORMAT";
  INTARSIA_ASSIGN_OR_RETURN(const std::string bytes, file_system->ReadAll(path, 4096));
  return DecodeDirectoryFormat(path, bytes);
}

// What a damaged FORMAT said: RocksDB has a copy of it.
Result<DirectoryFormat> FormatInRocks(const DatabaseCore& core) {
  RocksOptions options;
  options.mode = RocksOptions::Mode::kReadOnly;
  options.wal_recovery = WalRecovery::kPointInTime;
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<Rocks> rocks,
                            Rocks::Open(core.path + "/rocksdb", options));
  INTARSIA_ASSIGN_OR_RETURN(const std::string bytes,
                            rocks->Get(Family::kMeta, FormatKey(), nullptr));
  return DecodeDirectoryFormat(core.path + "/rocksdb", bytes);
}

// Reads FORMAT, or makes it anew if it is damaged.
Status TakeFormat(DatabaseCore* core) {
  Result<DirectoryFormat> format = ReadFormat(core->options.file_system, core->path);
  if (!format.ok() && format.status().code() == StatusCode::kCorruption) {
    const Status damage = format.status();
    format = FormatInRocks(*core);
    if (!format.ok()) return damage;
    Log(LogLevel::kWarning, "FORMAT made anew: " + damage.ToString());
    if (!core->is_read_only()) {
      INTARSIA_RETURN_IF_ERROR(core->options.file_system->WriteAtomically(
          core->path + "/FORMAT", EncodeDirectoryFormat(*format)));
    }
  }
  INTARSIA_RETURN_IF_ERROR(format.status());
  core->format = *format;
  return Status::Ok();
}

// A row that is there since the database was made.
Result<std::string> GetMeta(const DatabaseCore& core, const Rocks& rocks, const std::string& key) {
  Result<std::string> row = rocks.Get(Family::kMeta, key, nullptr);
  if (row.ok() || row.status().code() != StatusCode::kNotFound) return row;
  // As when RocksDB takes a damaged MANIFEST for one that ends early.
  return Status(StatusCode::kCorruption,
                "rows are missing that every database has: " + core.path + "/rocksdb");
}

// The number of the last commit; 0 before the first.
Result<uint64_t> LastCommit(const DatabaseCore& core, const Rocks& rocks) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string body, GetMeta(core, rocks, CommitKey()));
  return DecodeNumber(body);
}

// What to do about a log whose end is lost.
constexpr std::string_view kLossRemedy =
    "; restore a backup, or open what is left with --accept-loss";

// OK if nothing that was acknowledged is missing, or if that is accepted.
Status CheckCommits(const DatabaseCore& core, uint64_t found, uint64_t acknowledged,
                    std::string_view cause) {
  if (found >= acknowledged) return Status::Ok();
  const std::string numbers = ": " + core.path + "/rocksdb found=" + std::to_string(found) +
                              " acknowledged=" + std::to_string(acknowledged) +
                              " cause=" + std::string(cause);
  if (core.options.damaged_tail == DamagedTail::kRefuse) {
    return Status(
        StatusCode::kCorruption,
        std::string("acknowledged commits are missing").append(kLossRemedy).append(numbers));
  }
  Log(LogLevel::kWarning, "acknowledged commits are gone, as accepted" + numbers);
  return Status::Ok();
}

// Opens RocksDB and proves that every acknowledged commit is there. A log that is damaged where
// nothing was acknowledged yet, as after a power failure, is cut off there.
Status OpenRocks(DatabaseCore* core) {
  if (!core->is_read_only()) {
    INTARSIA_RETURN_IF_ERROR(RestoreCurrent(core->options.file_system, core->path + "/rocksdb"));
  }
  INTARSIA_ASSIGN_OR_RETURN(const uint64_t acknowledged,
                            CommitMark::Read(core->path + "/COMMITS", core->format.uuid_view()));
  RocksOptions options;
  options.mode = core->is_read_only() ? RocksOptions::Mode::kReadOnly : RocksOptions::Mode::kOpen;
  options.block_cache_bytes_max = core->options.block_cache_bytes_max;
  Result<std::unique_ptr<Rocks>> rocks = Rocks::Open(core->path + "/rocksdb", options);
  if (!rocks.ok() && rocks.status().code() == StatusCode::kCorruption) {
    // Looked at without changing anything before the tail is given up.
    RocksOptions probe_options = options;
    probe_options.mode = RocksOptions::Mode::kReadOnly;
    probe_options.wal_recovery = WalRecovery::kPointInTime;
    const auto probe = Rocks::Open(core->path + "/rocksdb", probe_options);
    if (!probe.ok()) return rocks.status();
    INTARSIA_ASSIGN_OR_RETURN(const uint64_t found, LastCommit(*core, **probe));
    if (core->options.damaged_tail == DamagedTail::kRefuse) {
      const Status problem = rocks.status();
      if (acknowledged == 0) {
        return Status(problem.code(), std::string(problem.message()).append(kLossRemedy));
      }
      INTARSIA_RETURN_IF_ERROR(CheckCommits(*core, found, acknowledged, problem.message()));
    }
    Log(LogLevel::kWarning, "damaged tail dropped: " + rocks.status().ToString());
    options.wal_recovery = WalRecovery::kPointInTime;
    rocks = Rocks::Open(core->path + "/rocksdb", options);
  }
  INTARSIA_RETURN_IF_ERROR(rocks.status());
  core->rocks = *std::move(rocks);
  INTARSIA_ASSIGN_OR_RETURN(core->last_commit, LastCommit(*core, *core->rocks));
  return CheckCommits(*core, core->last_commit, acknowledged, "the log ends too early");
}

// Makes a database of a directory that is empty or that a creation left unfinished. FORMAT comes
// last, so that it stands for a whole database.
Status Create(DatabaseCore* core) {
  INTARSIA_RETURN_IF_ERROR(core->options.file_system->CreateDirectories(core->path + "/rocksdb"));
  RocksOptions options;
  options.mode = RocksOptions::Mode::kCreate;
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<Rocks> rocks,
                            Rocks::Open(core->path + "/rocksdb", options));
  DirectoryFormat format = NewDirectoryFormat();
  const Result<std::string> begun = rocks->Get(Family::kMeta, FormatKey(), nullptr);
  if (begun.ok()) {
    INTARSIA_ASSIGN_OR_RETURN(format, DecodeDirectoryFormat(core->path + "/rocksdb", *begun));
  } else if (begun.status().code() == StatusCode::kNotFound) {
    RowBatch batch(rocks.get());
    batch.Put(Family::kMeta, FormatKey(), EncodeDirectoryFormat(format));
    batch.Put(Family::kMeta, IdsKey(), EncodeNextIds(NextIds()));
    batch.Put(Family::kMeta, CommitKey(), EncodeNumber(0));
    INTARSIA_RETURN_IF_ERROR(rocks->Write(&batch, Durability::kSync));
  } else {
    return begun.status();
  }
  return core->options.file_system->WriteAtomically(core->path + "/FORMAT",
                                                    EncodeDirectoryFormat(format));
}

// Finds or creates the directory and takes its lock. Afterwards FORMAT has been read.
Status PrepareDirectory(DatabaseCore* core) {
  FileSystem* const file_system = core->options.file_system;
  INTARSIA_ASSIGN_OR_RETURN(DirectoryState state, InspectDirectory(file_system, core->path));
  if (core->is_read_only() && state != DirectoryState::kComplete) {
    return Status(StatusCode::kNotFound, "no database here to open read-only: " + core->path);
  }
  if (core->is_read_only()) return TakeFormat(core);
  if (state == DirectoryState::kComplete) {
    // Before the lock, so that a newer database is left as it is.
    const Status status = ReadFormat(file_system, core->path).status();
    if (!status.ok() && status.code() != StatusCode::kCorruption) return status;
  }
  INTARSIA_RETURN_IF_ERROR(file_system->CreateDirectories(core->path));
  INTARSIA_ASSIGN_OR_RETURN(core->lock, DirectoryLock::Acquire(core->path, core->options.program));
  // Another process may have created it meanwhile.
  INTARSIA_ASSIGN_OR_RETURN(state, InspectDirectory(file_system, core->path));
  if (state != DirectoryState::kComplete) INTARSIA_RETURN_IF_ERROR(Create(core));
  return TakeFormat(core);
}

Status ReadMeta(DatabaseCore* core) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string format, GetMeta(*core, *core->rocks, FormatKey()));
  if (format != EncodeDirectoryFormat(core->format)) {
    return Status(StatusCode::kCorruption,
                  "FORMAT and rocksdb are of different databases; restore a backup: " + core->path);
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::string ids, GetMeta(*core, *core->rocks, IdsKey()));
  INTARSIA_ASSIGN_OR_RETURN(core->next_ids, DecodeNextIds(ids));
  return Status::Ok();
}

Status OpenKv(DatabaseCore* core) {
  KvCoreOptions options;
  options.rocks = core->rocks.get();
  options.commit_mutex = &core->commit_mutex;
  options.file_system = core->options.file_system;
  options.directory = core->path + "/kv";
  options.uuid = core->format.uuid_view();
  options.is_read_only = core->is_read_only();
  options.bytes_max = core->options.kv_bytes_max;
  options.memory_bytes_max = core->options.kv_memory_bytes_max;
  options.segment_bytes_max = core->options.kv_segment_bytes_max;
  options.policy = core->options.kv_eviction;
  options.clock = core->options.clock;
  INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<KvCore> kv, KvCore::Open(options));
  core->kv = std::make_unique<KvStore>(std::move(kv));
  return Status::Ok();
}

// Removes what a dropped collection still holds, a batch of documents per commit.
Status PurgeCollection(DatabaseCore* core, CollectionId collection) {
  for (;;) {
    Commit commit(core);
    const std::string prefix = ListingPrefix(collection);
    RowCursor row = core->rocks->ScanPrefix(Family::kDocuments, prefix, nullptr);
    int64_t num_documents = 0;
    for (; row.Valid() && num_documents < kPurgeBatch; row.Next(), ++num_documents) {
      const DocumentId id = IdInKey(row.key(), prefix.size());
      INTARSIA_ASSIGN_OR_RETURN(const std::string body,
                                core->rocks->Get(Family::kDocuments, DocumentKey(id), nullptr));
      INTARSIA_ASSIGN_OR_RETURN(const Document document, DecodeDocument(body));
      INTARSIA_RETURN_IF_ERROR(commit.RemoveDocument(document));
    }
    INTARSIA_RETURN_IF_ERROR(row.status());
    if (num_documents == 0) {
      commit.batch()->Delete(Family::kMeta, DroppedKey(collection));
      commit.batch()->Delete(Family::kMeta, StatsKey(collection));
      commit.batch()->Delete(Family::kMeta, VectorsChangedKey(collection));
      return commit.Finish(Durability::kSync);
    }
    INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kBuffer));
  }
}

Status PurgeDropped(DatabaseCore* core) {
  std::vector<CollectionId> dropped;
  RowCursor row = core->rocks->ScanPrefix(Family::kMeta, "x", nullptr);
  for (; row.Valid(); row.Next()) dropped.push_back(IdInKey(row.key(), 1));
  INTARSIA_RETURN_IF_ERROR(row.status());
  for (const CollectionId collection : dropped) {
    INTARSIA_RETURN_IF_ERROR(PurgeCollection(core, collection));
  }
  return Status::Ok();
}

Status OpenAll(DatabaseCore* core) {
  INTARSIA_RETURN_IF_ERROR(PrepareDirectory(core));
  if (!core->is_read_only()) RemoveBackupLeftovers(core->path);
  INTARSIA_RETURN_IF_ERROR(OpenRocks(core));
  INTARSIA_RETURN_IF_ERROR(ReadMeta(core));
  if (!core->is_read_only()) {
    INTARSIA_ASSIGN_OR_RETURN(core->mark,
                              CommitMark::Open(core->path + "/COMMITS", core->format.uuid_view()));
    INTARSIA_RETURN_IF_ERROR(core->mark->Write(core->last_commit));
  }
  INTARSIA_RETURN_IF_ERROR(OpenKv(core));
  return core->is_read_only() ? Status::Ok() : PurgeDropped(core);
}

// Damage that keeps a database from being opened, with what is left to do about it.
Status WithBackup(const Status& status) {
  constexpr std::string_view kRemedy = "restore a backup";
  if (status.code() != StatusCode::kCorruption ||
      status.message().find(kRemedy) != std::string_view::npos) {
    return status;
  }
  std::string message(status.message());
  if (message.ends_with(kCheckRemedy)) message.resize(message.size() - kCheckRemedy.size());
  return Status(status.code(), message.append("; ").append(kRemedy));
}

}  // namespace

Database::Database(std::unique_ptr<DatabaseCore> core) : core_(std::move(core)) {}

Database::~Database() {
  INTARSIA_CHECK(core_->num_views.load() == 0);  // A ReadView outlives its database.
}

Result<std::unique_ptr<Database>> Database::Open(const std::string& path,
                                                 const DatabaseOptions& options) {
  INTARSIA_RETURN_IF_ERROR(ValidateOptions(options));
  auto core = std::make_unique<DatabaseCore>();
  core->path = path;
  while (core->path.size() > 1 && core->path.back() == '/') core->path.pop_back();
  if (core->path.empty()) {
    return Status(StatusCode::kInvalidArgument, "a database needs the path of a directory");
  }
  core->options = options;
  INTARSIA_RETURN_IF_ERROR(WithBackup(OpenAll(core.get())));
  return std::make_unique<Database>(std::move(core));
}

const std::string& Database::path() const { return core_->path; }
AccessMode Database::access() const { return core_->options.access; }
std::array<uint8_t, 16> Database::uuid() const { return core_->format.uuid; }
ReadView Database::Read() const { return ReadView(core_.get()); }
KvStore* Database::kv() { return core_->kv.get(); }

Status Database::CheckWritable() const {
  if (!core_->is_read_only()) return Status::Ok();
  return Status(StatusCode::kUnsupported, "the database is open read-only: " + core_->path);
}

Status Database::DropCollection(CollectionId id) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  {
    Commit commit(core_.get());
    const Result<std::string> body =
        core_->rocks->Get(Family::kCatalog, CollectionKey(id), nullptr);
    if (!body.ok() && body.status().code() == StatusCode::kNotFound) {
      return Status(StatusCode::kNotFound, "no such collection: id=" + std::to_string(id));
    }
    INTARSIA_RETURN_IF_ERROR(body.status());
    INTARSIA_ASSIGN_OR_RETURN(const CollectionInfo collection, DecodeCollection(*body));
    commit.batch()->Delete(Family::kCatalog, CollectionKey(id));
    commit.batch()->Delete(Family::kCatalog, CollectionNameKey(collection.name));
    commit.batch()->PutKey(Family::kMeta, DroppedKey(id));
    commit.batch()->DeleteRange(Family::kPostings, PostingsPrefix(id),
                                KeyAfterPrefix(PostingsPrefix(id)));
    commit.batch()->Delete(Family::kPostings, PostingsMarkKey(id));
    INTARSIA_RETURN_IF_ERROR(commit.kv()->RemoveOwners(KvCollectionPrefix(id)));
    INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  }
  return PurgeCollection(core_.get(), id);
}

Result<int64_t> Database::Compact() {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  const int64_t before = core_->kv->stats().disk_bytes;
  INTARSIA_RETURN_IF_ERROR(core_->kv->DropExpired().status());
  INTARSIA_ASSIGN_OR_RETURN(const int64_t rows, core_->rocks->Compact());
  // As good as every dead byte: a user who asks for the space wants it.
  INTARSIA_RETURN_IF_ERROR(core_->kv->Compact({.dead_share_min = 0.001}).status());
  return rows + std::max<int64_t>(0, before - core_->kv->stats().disk_bytes);
}

}  // namespace intarsia::storage
