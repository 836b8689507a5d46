// SoakWorkload: operations that follow from a seed and their number, and what must be there after
// them.
//
// A process carries them out and acknowledges each. However it ends, the state is that after the
// last operation that was acknowledged or after the one in flight: documents with their exact text,
// every cache whole or absent and none of a document that is gone, backups and restored databases
// that are whole or say that they are not.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <unistd.h>

#include "storage/backup.h"
#include "storage/database.h"
#include "tests/storage/sample_data.h"

namespace intarsia::storage {

inline constexpr uint64_t kNumSources = 12;
inline constexpr int64_t kBudget = 400'000;  // of caches; each takes 24 KiB, so some are evicted
// What a verifying process ends with.
inline constexpr int kIsBefore = 20;  // the operation in flight has no effect
inline constexpr int kIsAfter = 21;   // it has

enum class OperationKind : uint8_t {
  kPut,
  kDelete,
  kCache,
  kClear,
  kCompact,
  kBackUp,   // with the backup before as its base, if `source` is odd
  kRestore,  // of the backup before
  kCheck
};

struct Operation {
  OperationKind kind = OperationKind::kPut;
  uint64_t source = 0;
};

inline Operation OperationOf(uint64_t seed, int64_t number) {
  using enum OperationKind;
  std::mt19937_64 random(seed * 1'000'003 + static_cast<uint64_t>(number));
  static constexpr OperationKind kOften[] = {kPut,   kPut,   kPut,   kPut,   kPut,    kPut,
                                             kCache, kCache, kCache, kCache, kDelete, kDelete};
  static constexpr OperationKind kRare[] = {kClear, kCompact, kBackUp, kBackUp, kRestore, kCheck};
  Operation operation;
  const uint64_t draw = random() % 100;
  operation.kind = draw < std::size(kRare) ? kRare[draw] : kOften[random() % std::size(kOften)];
  operation.source = random() % kNumSources;
  return operation;
}

inline std::string SourceOf(uint64_t source) { return "source " + std::to_string(source); }
inline std::string TextOf(int64_t number) {
  std::string text = "operation " + std::to_string(number) + ":";
  for (int64_t i = 0; i < number % 9; ++i) text += " and so on";
  return text;
}
// The cache of the document that an operation put.
inline SampleCache CacheOf(int64_t number) { return {"cache " + std::to_string(number), 2, 9'000}; }

// Which operation put the document that stands under each source, after `count` operations.
inline std::map<uint64_t, int64_t> StateAfter(uint64_t seed, int64_t count) {
  std::map<uint64_t, int64_t> state;
  for (int64_t number = 0; number < count; ++number) {
    const Operation operation = OperationOf(seed, number);
    if (operation.kind == OperationKind::kPut) state[operation.source] = number;
    if (operation.kind == OperationKind::kDelete) state.erase(operation.source);
  }
  return state;
}
// The number of the last operation of `kind` before `count`, or -1.
inline int64_t LastOf(uint64_t seed, OperationKind kind, int64_t count) {
  while (--count >= 0) {
    if (OperationOf(seed, count).kind == kind) break;
  }
  return count;
}

inline std::string DatabaseIn(const std::string& folder) { return folder + "/kb"; }
inline std::string BackupIn(const std::string& folder, int64_t number) {
  return folder + "/bk" + std::to_string(number);
}
inline std::string RestoredIn(const std::string& folder, int64_t number) {
  return folder + "/rs" + std::to_string(number);
}

inline std::unique_ptr<Database> OpenSmall(const std::string& path) {
  DatabaseOptions options;
  options.kv_bytes_max = kBudget;
  options.kv_memory_bytes_max = kBudget / 4;
  return OpenDatabase(path, options);
}

// Carries out operations on the database in `folder`, which has the collection `docs`.
class Worker {
 public:
  Worker(const std::string& folder, uint64_t seed)
      : folder_(folder), seed_(seed), database_(OpenSmall(DatabaseIn(folder))) {
    docs_ = Must(database_->Read().FindCollection("docs")).id;
  }

  void Do(int64_t number) {
    const Operation operation = OperationOf(seed_, number);
    const std::string source = SourceOf(operation.source);
    switch (operation.kind) {
      case OperationKind::kPut:
        PutOne(database_.get(), docs_, SampleDocument(source, TextOf(number), 0));
        return;
      case OperationKind::kDelete: {
        const auto found = database_->Read().GetDocumentBySource(docs_, source);
        if (found.ok()) Must(database_->DeleteDocuments({&found->id, 1}));
        return;
      }
      case OperationKind::kCache:
        return Cache(number, source);
      case OperationKind::kClear:
        Must(database_->kv()->DeleteByCollection(docs_));
        return;
      case OperationKind::kCompact:
        Must(database_->Compact());
        return;
      case OperationKind::kBackUp:
        return BackUp(number, operation.source % 2 == 1);
      case OperationKind::kRestore:
        return Restore(number);
      case OperationKind::kCheck:
        if (Must(database_->Check(
                     {.mode = CheckMode::kRepair, .cancel = nullptr, .on_progress = {}}))
                .num_findings != 0) {
          std::abort();
        }
        return;
    }
  }

 private:
  void Cache(int64_t number, const std::string& source) {
    const auto state = StateAfter(seed_, number);
    const auto put = state.find(OperationOf(seed_, number).source);
    const auto found = database_->Read().GetDocumentBySource(docs_, source);
    if (put == state.end() || !found.ok()) return;
    PutCache(database_.get(), CacheOf(put->second),
             {.collection = docs_, .document = found->id, .chunk = found->first_chunk});
    IsServed(database_->kv(), CacheOf(put->second));
  }
  // The backup before stays until this one is whole.
  void BackUp(int64_t number, bool is_incremental) {
    const int64_t before = LastOf(seed_, OperationKind::kBackUp, number);
    BackupOptions options;
    if (is_incremental && before >= 0) options.base = BackupIn(folder_, before);
    // What this very operation left when it was in flight and the process ended.
    std::filesystem::remove_all(BackupIn(folder_, number));
    Must(database_->BackUp(BackupIn(folder_, number), options));
    if (before >= 0) std::filesystem::remove_all(BackupIn(folder_, before));
  }
  void Restore(int64_t number) {
    const int64_t backup = LastOf(seed_, OperationKind::kBackUp, number);
    const int64_t before = LastOf(seed_, OperationKind::kRestore, number);
    if (before >= 0) std::filesystem::remove_all(RestoredIn(folder_, before));
    if (backup < 0) return;
    std::filesystem::remove_all(RestoredIn(folder_, number));
    Must(RestoreBackup(BackupIn(folder_, backup), RestoredIn(folder_, number), {}));
  }

  const std::string folder_;
  const uint64_t seed_;
  std::unique_ptr<Database> database_;
  CollectionId docs_ = 0;
};

// Carries out operations from `first` on and acknowledges each, until the process is ended.
[[noreturn]] inline void WorkUntilEnded(const std::string& folder, uint64_t seed, int64_t first,
                                        int acknowledge) {
  Worker worker(folder, seed);
  for (int64_t number = first;; ++number) {
    worker.Do(number);
    if (::write(acknowledge, &number, sizeof(number)) != sizeof(number)) ::_exit(1);
  }
}

// Whether the documents are exactly those of `state`.
inline bool Holds(const ReadView& view, CollectionId docs,
                  const std::map<uint64_t, int64_t>& state) {
  for (uint64_t source = 0; source < kNumSources; ++source) {
    const auto document = view.GetDocumentBySource(docs, SourceOf(source));
    const auto put = state.find(source);
    if (document.ok() != (put != state.end())) return false;
    if (document.ok() && Must(view.GetText(document->text_digest)) != TextOf(put->second)) {
      return false;
    }
  }
  return Must(view.GetStats(docs)).num_documents == static_cast<int64_t>(state.size());
}

// A backup that was acknowledged is whole, also while another is being made.
inline void VerifyBackups(const std::string& folder, uint64_t seed, int64_t count) {
  const bool is_in_flight = OperationOf(seed, count).kind == OperationKind::kBackUp;
  const Status status = CheckBackup(BackupIn(folder, count), {}).status();
  if (is_in_flight && !status.ok()) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status.ToString();
  }
  const int64_t last = LastOf(seed, OperationKind::kBackUp, count);
  if (last < 0 || (is_in_flight && status.ok())) return;
  const Status whole = CheckBackup(BackupIn(folder, last), {}).status();
  EXPECT_TRUE(whole.ok()) << whole.ToString();
}

// A restored database that was acknowledged holds what its backup did.
inline void VerifyRestored(const std::string& folder, uint64_t seed, int64_t count) {
  const bool is_in_flight = OperationOf(seed, count).kind == OperationKind::kRestore;
  const int64_t number = is_in_flight ? count : LastOf(seed, OperationKind::kRestore, count);
  const int64_t backup = number < 0 ? -1 : LastOf(seed, OperationKind::kBackUp, number);
  if (backup < 0) return;
  const auto restored =
      Database::Open(RestoredIn(folder, number), {.access = AccessMode::kReadOnly});
  if (!restored.ok()) {
    EXPECT_TRUE(is_in_flight) << restored.status().ToString();
    return;
  }
  const ReadView view = (*restored)->Read();
  EXPECT_TRUE(Holds(view, Must(view.FindCollection("docs")).id, StateAfter(seed, backup)));
}

enum class AfterEnd : uint8_t {
  kOfProcess,  // Every file is as the process left it.
  kOfPower,    // Caches, which are not synced, may be damaged.
};

// Verifies everything after `count` acknowledged operations; returns which state it has.
inline int Verify(const std::string& folder, uint64_t seed, int64_t count, AfterEnd end) {
  const auto database = OpenSmall(DatabaseIn(folder));
  const auto before = StateAfter(seed, count);
  const auto after = StateAfter(seed, count + 1);
  int state = kIsBefore;
  {
    const ReadView view = database->Read();
    const CollectionId docs = Must(view.FindCollection("docs")).id;
    if (!Holds(view, docs, before)) {
      EXPECT_TRUE(Holds(view, docs, after)) << "lost or came back: operation=" << count;
      state = kIsAfter;
    }
  }
  // A cache is whole or absent, and none outlives its document; IsServed ends on wrong bytes.
  std::set<int64_t> living;
  for (const auto& [source, number] : state == kIsAfter ? after : before) living.insert(number);
  for (int64_t number = 0; number <= count; ++number) {
    const bool is_served = IsServed(database->kv(), CacheOf(number));
    EXPECT_TRUE(!is_served || living.contains(number)) << "cache of operation " << number;
  }
  EXPECT_LE(database->kv()->memory_stats().num_bytes, kBudget / 4);
  EXPECT_EQ(database->kv()->stats().num_pins, 0);
  const CheckReport report = Must(database->Check({}));
  for (const CheckFinding& finding : report.findings) {
    EXPECT_TRUE(end == AfterEnd::kOfPower && finding.object.starts_with("kv cache"))
        << finding.object << ": " << finding.problem;
  }
  VerifyBackups(folder, seed, count);
  VerifyRestored(folder, seed, count);
  return state;
}

}  // namespace intarsia::storage
