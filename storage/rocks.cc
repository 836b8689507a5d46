#include "storage/rocks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/transaction_log.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include "base/file.h"
#include "storage/record.h"
#include "storage/rocks_options.h"
#include "storage/rocks_tables.h"

#ifdef __SANITIZE_THREAD__
// RocksDB comes as a library that was built without the thread sanitizer, which therefore cannot
// see how its threads order their accesses. What we do with our own memory stays watched.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librocksdb.so\nrace:librocksdb.so\nrace:rocksdb::\n";
}
#endif

namespace intarsia::storage {
namespace {

Status FromRocks(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return Status::Ok();
  StatusCode code = StatusCode::kIo;
  if (status.IsNotFound()) code = StatusCode::kNotFound;
  // A file of RocksDB's own that is not there is damage too.
  if (status.IsCorruption() || status.IsPathNotFound()) code = StatusCode::kCorruption;
  if (status.IsNoSpace() || status.IsMemoryLimit()) code = StatusCode::kResourceExhausted;
  if (status.IsInvalidArgument() || status.IsNotSupported()) code = StatusCode::kInternal;
  if (status.IsBusy() || status.IsTryAgain()) code = StatusCode::kUnavailable;
  return Status(code, "cannot " + std::string(doing) + ": " + status.ToString());
}

Status WithRemedy(const Status& status) {
  if (status.code() != StatusCode::kCorruption) return status;
  return Status(status.code(), std::string(status.message()).append(kCheckRemedy));
}

// Of a read: with what to do about damage.
Status FromRead(const rocksdb::Status& status, std::string_view family, std::string_view key) {
  if (status.ok()) return Status::Ok();
  return WithRemedy(FromRocks(status, "read " + RecordName(family, key)));
}

Result<std::string_view> OpenRow(Family family, std::string_view key, std::string_view value) {
  Result<std::string_view> body = OpenRecord(FamilyName(family), key, value);
  return body.ok() ? body : WithRemedy(body.status());
}

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view FromSlice(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// Bytes of log that are left behind when a database is closed. To read them again takes some tens
// of milliseconds; to write tables for less would cost more files than it is worth.
constexpr uint64_t kLogLeftMax = uint64_t{8} << 20;

}  // namespace

struct Rocks::State {
  std::string path;
  bool is_read_only = false;
  std::unique_ptr<rocksdb::DB> db;
  // By Family, then the default one; owned. One that is replaced lives on for those who use it.
  std::array<std::atomic<rocksdb::ColumnFamilyHandle*>, kNumFamilies + 1> families{};
  std::mutex mutex;
  std::vector<rocksdb::ColumnFamilyHandle*> replaced;  // Guarded by mutex; owned.
  const std::shared_ptr<FailureListener> failures = std::make_shared<FailureListener>();
  std::atomic<bool> has_failed{false};
  std::atomic<uint64_t> failed_log{0};  // the number of the log that could not be written, or 0

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    FlushLargeLog();
    for (const auto& family : families) Release(family.load());
    for (rocksdb::ColumnFamilyHandle* family : replaced) Release(family);
  }
  // So that the next Open need not read a large log again. A failure costs it that time only.
  void FlushLargeLog() {
    if (db == nullptr || is_read_only || has_failed.load()) return;
    rocksdb::VectorLogPtr files;
    if (!db->GetSortedWalFiles(files).ok()) return;
    uint64_t num_bytes = 0;
    for (const auto& file : files) num_bytes += file->SizeFileBytes();
    if (num_bytes < kLogLeftMax) return;
    db->Flush(rocksdb::FlushOptions(), Handles()).PermitUncheckedError();
  }
  void Release(rocksdb::ColumnFamilyHandle* family) const {
    if (family == nullptr) return;
    // It only reports handles that are not the database's own.
    db->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  }
  rocksdb::ColumnFamilyHandle* Handle(Family family) const {
    return families[static_cast<size_t>(family)].load();
  }
  std::vector<rocksdb::ColumnFamilyHandle*> Handles() const {
    return {families.begin(), families.end()};
  }
  // The number of the log that takes the writes, or 0.
  uint64_t LogNumber() const {
    std::unique_ptr<rocksdb::LogFile> log;
    return db->GetCurrentWalFile(&log).ok() ? log->LogNumber() : 0;
  }
  void NoteFailure() {
    has_failed.store(true);
    if (failures->TakeLogFailure()) failed_log.store(LogNumber());
  }
  // Makes writes possible again after one that failed. RocksDB may go on with a log that failed,
  // if there is nothing in memory that it can flush; such a log is not written again.
  rocksdb::Status Resume() {
    if (const rocksdb::Status status = db->Resume(); !status.ok()) return status;
    if (const uint64_t failed = failed_log.load(); failed != 0 && failed == LogNumber()) {
      return rocksdb::Status::IOError("the log could not be written before");
    }
    failed_log.store(0);
    return rocksdb::Status::OK();
  }
};

struct RowBatch::State {
  explicit State(const Rocks::State& owner) : rocks(owner) {}

  const Rocks::State& rocks;
  rocksdb::WriteBatch batch;
  rocksdb::Status status;  // The first refusal.

  void Keep(const rocksdb::Status& next) {
    if (status.ok()) status = next;
  }
};

struct RowCursor::State {
  Family family = Family::kMeta;
  std::string end;
  rocksdb::Slice end_slice;
  std::unique_ptr<rocksdb::Iterator> iterator;
};

RowBatch::RowBatch(const Rocks* rocks) : state_(std::make_unique<State>(rocks->state())) {}
RowBatch::~RowBatch() = default;

void RowBatch::Put(Family family, std::string_view key, std::string_view body) {
  const std::string value = SealRecord(key, body);
  state_->Keep(state_->batch.Put(state_->rocks.Handle(family), ToSlice(key), value));
}
void RowBatch::PutKey(Family family, std::string_view key) {
  state_->Keep(state_->batch.Put(state_->rocks.Handle(family), ToSlice(key), rocksdb::Slice()));
}
void RowBatch::Delete(Family family, std::string_view key) {
  state_->Keep(state_->batch.Delete(state_->rocks.Handle(family), ToSlice(key)));
}
void RowBatch::DeleteRange(Family family, std::string_view begin, std::string_view end) {
  state_->Keep(
      state_->batch.DeleteRange(state_->rocks.Handle(family), ToSlice(begin), ToSlice(end)));
}
int64_t RowBatch::num_bytes() const { return static_cast<int64_t>(state_->batch.GetDataSize()); }

namespace {

// At the first row of the family in [begin, end).
RowCursor CursorOf(const Rocks::State& state, rocksdb::ReadOptions options, Family family,
                   std::string_view begin, std::string_view end) {
  auto cursor = std::make_unique<RowCursor::State>();
  cursor->family = family;
  cursor->end = end;
  cursor->end_slice = cursor->end;
  options.iterate_upper_bound = &cursor->end_slice;
  cursor->iterator.reset(state.db->NewIterator(options, state.Handle(family)));
  cursor->iterator->Seek(ToSlice(begin));
  return RowCursor(std::move(cursor));
}

}  // namespace

RowCursor::RowCursor(std::unique_ptr<State> state) : state_(std::move(state)) {}
RowCursor::~RowCursor() = default;
RowCursor::RowCursor(RowCursor&&) noexcept = default;

bool RowCursor::Valid() const { return state_->iterator->Valid(); }
void RowCursor::Next() { state_->iterator->Next(); }
void RowCursor::Seek(std::string_view key) { state_->iterator->Seek(ToSlice(key)); }
std::string_view RowCursor::key() const { return FromSlice(state_->iterator->key()); }
Result<std::string_view> RowCursor::Body() const {
  return OpenRow(state_->family, key(), FromSlice(state_->iterator->value()));
}
Status RowCursor::status() const {
  return WithRemedy(FromRocks(state_->iterator->status(),
                              "read rows of " + std::string(FamilyName(state_->family))));
}

Rocks::Rocks(std::unique_ptr<State> state) : state_(std::move(state)) {}
Rocks::~Rocks() = default;

namespace {

// Refuses families that we do not know. OK where there is no database yet.
Status CheckFamilies(const rocksdb::DBOptions& options, const std::string& path) {
  std::vector<std::string> present;
  const rocksdb::Status status = rocksdb::DB::ListColumnFamilies(options, path, &present);
  if (!status.ok()) {
    return options.create_if_missing ? Status::Ok() : FromRocks(status, "open " + path);
  }
  for (const std::string& name : present) {
    bool is_known = name == rocksdb::kDefaultColumnFamilyName;
    for (int i = 0; i < kNumFamilies; ++i) {
      is_known = is_known || name == FamilyName(static_cast<Family>(i));
    }
    if (!is_known) {
      return Status(StatusCode::kUnsupported,
                    "the database holds rows that this program does not know: family=" + name);
    }
  }
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<Rocks>> Rocks::Open(const std::string& path, const RocksOptions& options) {
  INTARSIA_RETURN_IF_ERROR(CheckTableProperties(FileSystem::Local(), path));
  auto state = std::make_unique<State>();
  rocksdb::DBOptions db_options = DatabaseOptionsOf(options);
  db_options.listeners.push_back(state->failures);
  INTARSIA_RETURN_IF_ERROR(CheckFamilies(db_options, path));
  const std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(static_cast<size_t>(options.block_cache_bytes_max));
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (int i = 0; i < kNumFamilies; ++i) {
    const auto family = static_cast<Family>(i);
    descriptors.emplace_back(std::string(FamilyName(family)), FamilyOptionsOf(family, cache));
  }
  descriptors.emplace_back(rocksdb::kDefaultColumnFamilyName,
                           FamilyOptionsOf(Family::kMeta, cache));

  // Beside a writer, files may go between reading their names and opening them.
  const int num_tries = options.mode == RocksOptions::Mode::kReadOnly ? 5 : 1;
  state->path = path;
  state->is_read_only = options.mode == RocksOptions::Mode::kReadOnly;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  rocksdb::Status status;
  for (int i = 0; i < num_tries; ++i) {
    rocksdb::DB* db = nullptr;
    status = options.mode == RocksOptions::Mode::kReadOnly
                 ? rocksdb::DB::OpenForReadOnly(db_options, path, descriptors, &families, &db)
                 : rocksdb::DB::Open(db_options, path, descriptors, &families, &db);
    state->db.reset(db);
    // A log that went meanwhile looks like a damaged one.
    if (status.ok() || !(status.IsIOError() || status.IsCorruption())) break;
    if (i + 1 < num_tries) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (status.IsNoSpace()) {
    return Status(StatusCode::kResourceExhausted,
                  "cannot open " + path + " for writing: " + status.ToString() +
                      "; free space on its disk, or open the directory read-only");
  }
  if (!status.ok()) return FromRocks(status, "open " + path);
  std::ranges::copy(families, state->families.begin());
  return std::make_unique<Rocks>(std::move(state));
}

Result<std::string> Rocks::Get(Family family, std::string_view key,
                               const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  rocksdb::PinnableSlice value;
  const rocksdb::Status status =
      state_->db->Get(options, state_->Handle(family), ToSlice(key), &value);
  if (status.IsNotFound()) {
    return Status(StatusCode::kNotFound, "no such record: " + RecordName(FamilyName(family), key));
  }
  INTARSIA_RETURN_IF_ERROR(FromRead(status, FamilyName(family), key));
  INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, OpenRow(family, key, FromSlice(value)));
  return std::string(body);
}

Result<bool> Rocks::Exists(Family family, std::string_view key) const {
  rocksdb::PinnableSlice value;
  const rocksdb::Status status =
      state_->db->Get(rocksdb::ReadOptions(), state_->Handle(family), ToSlice(key), &value);
  if (status.IsNotFound()) return false;
  INTARSIA_RETURN_IF_ERROR(FromRead(status, FamilyName(family), key));
  return true;
}

RowCursor Rocks::Scan(Family family, std::string_view begin, std::string_view end,
                      const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.fill_cache = family != Family::kVectors && family != Family::kText;
  return CursorOf(*state_, options, family, begin, end);
}

RowCursor Rocks::ScanOnce(Family family, std::string_view begin, std::string_view end) const {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = size_t{1} << 20;
  return CursorOf(*state_, options, family, begin, end);
}

int64_t Rocks::EstimatedRows(Family family) const {
  uint64_t num_rows = 0;
  if (!state_->db->GetIntProperty(state_->Handle(family), rocksdb::DB::Properties::kEstimateNumKeys,
                                  &num_rows)) {
    return 0;
  }
  return static_cast<int64_t>(std::min(num_rows, uint64_t{1} << 40));
}

Status Rocks::Write(RowBatch* batch, Durability durability) {
  INTARSIA_RETURN_IF_ERROR(FromRocks(batch->state()->status, "build a write"));
  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kSync;
  // After a failed write RocksDB refuses all others until it is told that the cause may be gone.
  // Twice, because the refusal may be about a flush in the background that failed meanwhile: what
  // made that fail may be gone too. A batch may be written again, since it only sets and deletes.
  rocksdb::Status status;
  for (int i = 0; i < 2; ++i) {
    if (state_->has_failed.exchange(false)) {
      if (const rocksdb::Status resumed = state_->Resume(); !resumed.ok()) {
        state_->NoteFailure();
        // The error of the write itself says more than that of going on.
        return FromRocks(status.ok() ? resumed : status,
                         resumed.IsNoSpace()
                             ? "write " + state_->path
                             : "write until the database is opened again, " + state_->path);
      }
    }
    status = state_->db->Write(options, &batch->state()->batch);
    // Other errors are about the batch and not about the disk.
    if (!status.IsIOError() && !status.IsCorruption()) break;
    state_->NoteFailure();
  }
  return FromRocks(status, "write " + state_->path);
}

const rocksdb::Snapshot* Rocks::TakeSnapshot() const { return state_->db->GetSnapshot(); }
void Rocks::ReleaseSnapshot(const rocksdb::Snapshot* snapshot) const {
  state_->db->ReleaseSnapshot(snapshot);
}

Status Rocks::Recreate(Family family) {
  const std::string name(FamilyName(family));
  const std::lock_guard<std::mutex> lock(state_->mutex);
  rocksdb::ColumnFamilyHandle* const old = state_->Handle(family);
  const rocksdb::ColumnFamilyOptions options(state_->db->GetOptions(old));
  // If the process ends between the two, the next Open creates the family.
  INTARSIA_RETURN_IF_ERROR(
      FromRocks(state_->db->DropColumnFamily(old), "drop the rows of " + name));
  rocksdb::ColumnFamilyHandle* fresh = nullptr;
  INTARSIA_RETURN_IF_ERROR(
      FromRocks(state_->db->CreateColumnFamily(options, name, &fresh), "create " + name));
  state_->families[static_cast<size_t>(family)].store(fresh);
  state_->replaced.push_back(old);
  return Status::Ok();
}

Result<std::vector<DamagedTable>> Rocks::CheckTables(
    const std::function<Status(int64_t, int64_t)>& on_file) const {
  std::vector<rocksdb::LiveFileMetaData> files;
  state_->db->GetLiveFilesMetaData(&files);
  std::vector<DamagedTable> damaged;
  int64_t num_done = 0;
  for (const rocksdb::LiveFileMetaData& file : files) {
    Family family = Family::kMeta;
    for (int i = 0; i < kNumFamilies; ++i) {
      if (file.column_family_name == FamilyName(static_cast<Family>(i))) {
        family = static_cast<Family>(i);
      }
    }
    const std::string path = file.directory + "/" + file.relative_filename;
    const rocksdb::Options options(state_->db->GetDBOptions(), FamilyOptionsOf(family, nullptr));
    const rocksdb::Status status =
        rocksdb::VerifySstFileChecksum(options, rocksdb::EnvOptions(), path);
    // Gone by compaction, which read it.
    const bool is_gone = !status.ok() && !state_->db->GetEnv()->FileExists(path).ok();
    if (!status.ok() && !is_gone) {
      damaged.push_back({.path = path, .family = family, .problem = status.ToString()});
    }
    INTARSIA_RETURN_IF_ERROR(on_file(++num_done, std::ssize(files)));
  }
  return damaged;
}

Status Rocks::Checkpoint(const std::string& path) const {
  rocksdb::Checkpoint* created = nullptr;
  const rocksdb::Status status = rocksdb::Checkpoint::Create(state_->db.get(), &created);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(created);
  INTARSIA_RETURN_IF_ERROR(FromRocks(status, "prepare a checkpoint of " + state_->path));
  return FromRocks(checkpoint->CreateCheckpoint(path), "make a checkpoint of " + state_->path);
}

Result<int64_t> Rocks::Compact() {
  const auto table_bytes = [this] {
    uint64_t sum = 0;
    for (rocksdb::ColumnFamilyHandle* family : state_->Handles()) {
      uint64_t bytes = 0;
      if (state_->db->GetIntProperty(family, rocksdb::DB::Properties::kTotalSstFilesSize, &bytes)) {
        sum += bytes;
      }
    }
    return static_cast<int64_t>(sum);
  };
  rocksdb::FlushOptions flush;
  INTARSIA_RETURN_IF_ERROR(
      FromRocks(state_->db->Flush(flush, state_->Handles()), "flush " + state_->path));
  const int64_t bytes_before = table_bytes();
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (rocksdb::ColumnFamilyHandle* family : state_->Handles()) {
    INTARSIA_RETURN_IF_ERROR(FromRocks(state_->db->CompactRange(options, family, nullptr, nullptr),
                                       "compact " + state_->path));
  }
  // Obsolete files go in the background; what asks for them to go again waits for it.
  INTARSIA_RETURN_IF_ERROR(
      FromRocks(state_->db->DisableFileDeletions(), "hold files of " + state_->path));
  INTARSIA_RETURN_IF_ERROR(FromRocks(state_->db->EnableFileDeletions(/*force=*/false),
                                     "remove obsolete files of " + state_->path));
  return std::max<int64_t>(0, bytes_before - table_bytes());
}

Result<Rocks::TableScan> Rocks::ScanTable(const std::string& path, const VisitTableRow& visit) {
  rocksdb::Options options;
  options.info_log = MakeErrorLog();
  rocksdb::SstFileReader reader(options);
  if (const rocksdb::Status opened = reader.Open(path); !opened.ok()) {
    // What vanished between the listing and here was obsolete.
    const bool is_gone = opened.IsPathNotFound() || opened.IsNotFound();
    return is_gone ? Status(StatusCode::kNotFound, "no such table: " + path)
                   : FromRocks(opened, "open the table " + path);
  }
  const std::shared_ptr<const rocksdb::TableProperties> properties = reader.GetTableProperties();
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> row(reader.NewIterator(read));
  TableScan scan;
  for (row->SeekToFirst(); row->Valid(); row->Next()) {
    ++scan.num_rows;
    INTARSIA_RETURN_IF_ERROR(
        visit(properties->column_family_name, FromSlice(row->key()), FromSlice(row->value())));
  }
  INTARSIA_RETURN_IF_ERROR(FromRocks(row->status(), "read the table " + path));
  scan.num_hidden = static_cast<int64_t>(properties->num_entries) -
                    static_cast<int64_t>(properties->num_deletions) - scan.num_rows;
  return scan;
}

}  // namespace intarsia::storage
