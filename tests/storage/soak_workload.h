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

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>
#include <sys/wait.h>
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
  kIngest,  // kIngestSources documents of one text, in more than one commit
  kDelete,
  kErase,
  kCache,
  kAnswer,  // a cache written behind it, where there are answers
  kIndex,   // of statements only
  kClear,
  kCompact,
  kBackUp,       // whole
  kBackUpSince,  // with the backup before as its base, if there is one
  kRestore,      // of the backup before
  kCheck
};
inline constexpr size_t kNumOperationKinds = 13;
inline constexpr const char* kOperationNames[kNumOperationKinds] = {
    "put",   "ingest",  "delete",  "erase",         "cache",   "answer", "index",
    "clear", "compact", "back up", "back up since", "restore", "check"};
inline constexpr uint64_t kIngestSources = 3;

inline bool IsBackUp(OperationKind kind) {
  return kind == OperationKind::kBackUp || kind == OperationKind::kBackUpSince;
}

struct Operation {
  OperationKind kind = OperationKind::kPut;
  uint64_t source = 0;
};

inline Operation OperationOf(uint64_t seed, int64_t number) {
  using enum OperationKind;
  std::mt19937_64 random(seed * 1'000'003 + static_cast<uint64_t>(number));
  static constexpr OperationKind kOften[] = {kPut,   kPut,   kPut,    kPut,    kIngest, kIngest,
                                             kCache, kCache, kAnswer, kAnswer, kDelete, kDelete};
  static constexpr OperationKind kRare[] = {kErase,       kIndex,   kIndex,   kClear,
                                            kCompact,     kCompact, kBackUp,  kBackUp,
                                            kBackUpSince, kRestore, kRestore, kCheck};
  Operation operation;
  const uint64_t draw = random() % 100;
  operation.kind = draw < std::size(kRare) ? kRare[draw] : kOften[random() % std::size(kOften)];
  operation.source = random() % kNumSources;
  return operation;
}

// Also the path of a file, for what reads files.
inline std::string SourceOf(uint64_t source) {
  return "files/source" + std::to_string(source) + ".txt";
}
// The sources whose documents an operation puts.
inline std::vector<uint64_t> SourcesOf(const Operation& operation) {
  const bool is_ingest = operation.kind == OperationKind::kIngest;
  std::vector<uint64_t> sources;
  for (uint64_t i = 0; i < (is_ingest ? kIngestSources : 1); ++i) {
    sources.push_back((operation.source + i) % kNumSources);
  }
  return sources;
}
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
    if (operation.kind == OperationKind::kPut || operation.kind == OperationKind::kIngest) {
      for (const uint64_t source : SourcesOf(operation)) state[source] = number;
    }
    if (operation.kind == OperationKind::kDelete || operation.kind == OperationKind::kErase) {
      state.erase(operation.source);
    }
  }
  return state;
}
// The number of the last backup, or restored database, before operation `count`, or -1.
inline int64_t LastBackUp(uint64_t seed, int64_t count) {
  while (--count >= 0) {
    if (IsBackUp(OperationOf(seed, count).kind)) break;
  }
  return count;
}
inline int64_t LastRestore(uint64_t seed, int64_t count) {
  while (--count >= 0) {
    if (OperationOf(seed, count).kind == OperationKind::kRestore) break;
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

// Makes way for the backup of an operation that may have been in flight when a process was ended.
// False if it is whole already: then the one before may be gone, and this one has to stay.
inline bool PrepareBackup(const std::string& folder, int64_t number) {
  if (CheckBackup(BackupIn(folder, number), {}).ok()) return false;
  std::filesystem::remove_all(BackupIn(folder, number));
  return true;
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
      case OperationKind::kIngest:
        for (const uint64_t each : SourcesOf(operation)) {
          PutOne(database_.get(), docs_, SampleDocument(SourceOf(each), TextOf(number), 0));
        }
        return;
      case OperationKind::kDelete: {
        const auto found = database_->Read().GetDocumentBySource(docs_, source);
        if (found.ok()) Must(database_->DeleteDocuments({&found->id, 1}));
        return;
      }
      case OperationKind::kErase: {
        const auto found = database_->Read().GetDocumentBySource(docs_, source);
        if (found.ok()) Must(database_->Erase({&found->id, 1}, {}));
        return;
      }
      case OperationKind::kCache:
      case OperationKind::kAnswer:
        return Cache(number, source);
      case OperationKind::kIndex:
        return;
      case OperationKind::kClear:
        Must(database_->kv()->DeleteByCollection(docs_));
        return;
      case OperationKind::kCompact:
        Must(database_->Compact());
        return;
      case OperationKind::kBackUp:
      case OperationKind::kBackUpSince:
        return BackUp(number, operation.kind == OperationKind::kBackUpSince);
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
    const int64_t before = LastBackUp(seed_, number);
    BackupOptions options;
    if (is_incremental && before >= 0) options.base = BackupIn(folder_, before);
    if (PrepareBackup(folder_, number)) Must(database_->BackUp(BackupIn(folder_, number), options));
    if (before >= 0) std::filesystem::remove_all(BackupIn(folder_, before));
  }
  void Restore(int64_t number) {
    const int64_t backup = LastBackUp(seed_, number);
    const int64_t before = LastRestore(seed_, number);
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

// Which operation put the document that stands under each source: of those that StateAfter says
// for `count` and `count + 1`, else kUnknown.
inline constexpr int64_t kUnknown = -1;
inline std::map<uint64_t, int64_t> StateIn(const ReadView& view, uint64_t seed, int64_t count) {
  const CollectionId docs = Must(view.FindCollection("docs")).id;
  const auto before = StateAfter(seed, count);
  const auto after = StateAfter(seed, count + 1);
  std::map<uint64_t, int64_t> state;
  for (uint64_t source = 0; source < kNumSources; ++source) {
    const auto document = view.GetDocumentBySource(docs, SourceOf(source));
    if (!document.ok()) continue;
    const std::string text = Must(view.GetText(document->text_digest));
    state[source] = kUnknown;
    for (const auto* const known : {&before, &after}) {
      const auto put = known->find(source);
      if (put != known->end() && text == TextOf(put->second)) state[source] = put->second;
    }
  }
  EXPECT_EQ(Must(view.GetStats(docs)).num_documents, std::ssize(state));
  return state;
}

// Whether `state` is that after `count` operations and a part of the documents of the next one,
// which puts more than one of them.
inline bool IsBetween(const std::map<uint64_t, int64_t>& state, uint64_t seed, int64_t count) {
  const Operation operation = OperationOf(seed, count);
  if (operation.kind != OperationKind::kIngest) return false;
  auto between = StateAfter(seed, count);
  for (const uint64_t source : SourcesOf(operation)) {
    if (const auto found = state.find(source); found != state.end() && found->second == count) {
      between[source] = count;
    }
  }
  return state == between;
}

// A backup that was acknowledged is whole, also while another is being made.
inline void VerifyBackups(const std::string& folder, uint64_t seed, int64_t count) {
  const bool is_in_flight = IsBackUp(OperationOf(seed, count).kind);
  const Status status = CheckBackup(BackupIn(folder, count), {}).status();
  if (is_in_flight && !status.ok()) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status.ToString();
  }
  const int64_t last = LastBackUp(seed, count);
  if (last < 0 || (is_in_flight && status.ok())) return;
  const Status whole = CheckBackup(BackupIn(folder, last), {}).status();
  EXPECT_TRUE(whole.ok()) << whole.ToString();
}

// A restored database that was acknowledged holds what its backup did.
inline void VerifyRestored(const std::string& folder, uint64_t seed, int64_t count) {
  const bool is_in_flight = OperationOf(seed, count).kind == OperationKind::kRestore;
  const int64_t number = is_in_flight ? count : LastRestore(seed, count);
  const int64_t backup = number < 0 ? -1 : LastBackUp(seed, number);
  if (backup < 0) return;
  const auto restored =
      Database::Open(RestoredIn(folder, number), {.access = AccessMode::kReadOnly});
  if (!restored.ok()) {
    EXPECT_TRUE(is_in_flight) << restored.status().ToString();
    return;
  }
  EXPECT_EQ(StateIn((*restored)->Read(), seed, backup), StateAfter(seed, backup));
}

enum class AfterEnd : uint8_t {
  kOfProcess,  // Every file is as the process left it.
  kOfPower,    // Caches, which are not synced, may be damaged.
};

// Verifies everything after `count` acknowledged operations; returns which state it has.
inline int Verify(const std::string& folder, uint64_t seed, int64_t count, AfterEnd end) {
  const auto database = OpenSmall(DatabaseIn(folder));
  const auto documents = StateIn(database->Read(), seed, count);
  const bool is_before = documents == StateAfter(seed, count);
  const bool is_after = !is_before && documents == StateAfter(seed, count + 1);
  EXPECT_TRUE(is_before || is_after || IsBetween(documents, seed, count))
      << "lost or came back: operation=" << count;
  // A cache is whole or absent, and none outlives its document; IsServed ends on wrong bytes.
  std::set<int64_t> living;
  for (const auto& [source, number] : documents) living.insert(number);
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
  return is_after ? kIsAfter : kIsBefore;
}

// What a run of kills does, each step in a process of its own.
struct SoakSteps {
  std::span<const OperationKind> kinds;                      // in which it is killed
  std::function<void()> make;                                // the database with its collection
  std::function<void(int64_t first, int acknowledge)> work;  // until it is killed
  std::function<int(int64_t count)> verify;                  // as Verify
};

// Reads what a worker acknowledges.
class Acknowledgements {
 public:
  using Clock = std::chrono::steady_clock;

  // `durations`: how long an operation of each kind took lately.
  Acknowledgements(int descriptor, uint64_t seed,
                   std::array<Clock::duration, kNumOperationKinds>* durations)
      : descriptor_(descriptor), seed_(seed), durations_(durations) {}

  // Waits for the next one; false when the worker has ended.
  bool Next(int64_t* count) {
    int64_t number = 0;
    if (::read(descriptor_, &number, sizeof(number)) != sizeof(number)) return false;
    const Clock::time_point now = Clock::now();
    const auto kind = static_cast<size_t>(OperationOf(seed_, number).kind);
    // The first includes the opening.
    if (last_ != Clock::time_point()) (*durations_)[kind] = now - last_;
    last_ = now;
    *count = number + 1;
    return true;
  }

 private:
  const int descriptor_;
  const uint64_t seed_;
  std::array<Clock::duration, kNumOperationKinds>* const durations_;
  Clock::time_point last_;
};

// What the child process ended with; -1 if a signal ended it.
inline int WaitFor(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Kills the work `num_kills` times, verifies what is there after each, and prints the totals of all
// runs of this program. The seed says in which kind of operation and at which share of the time
// that it took lately: so each phase of each kind is met, however short it is beside the others.
inline void RunKills(uint64_t seed, int num_kills, const SoakSteps& steps) {
  constexpr int64_t kOperationsMax = 150;  // until one of the kind comes
  static int64_t num_killed = 0;
  static int64_t num_acknowledged = 0;
  static int64_t num_finished_unacknowledged = 0;
  static std::map<OperationKind, int64_t> num_killed_in;
  std::mt19937_64 random(seed);
  if (const pid_t child = ::fork(); child == 0) {
    steps.make();
    ::_exit(0);
  } else {
    ASSERT_EQ(WaitFor(child), 0);
  }
  int64_t count = 0;  // operations that are known to be done
  std::array<Acknowledgements::Clock::duration, kNumOperationKinds> durations;
  durations.fill(std::chrono::milliseconds(2));
  for (int kill = 0; kill < num_kills; ++kill) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t worker = ::fork();
    if (worker == 0) {
      steps.work(count, pipe[1]);
      ::_exit(0);
    }
    ::close(pipe[1]);
    Acknowledgements acknowledgements(pipe[0], seed, &durations);
    const OperationKind wanted = steps.kinds[random() % steps.kinds.size()];
    const double share = static_cast<double>(random() % 1'100) / 1'000.0;
    const int64_t end = count + kOperationsMax;
    bool is_working = acknowledgements.Next(&count);
    while (is_working && count < end && OperationOf(seed, count).kind != wanted) {
      is_working = acknowledgements.Next(&count);
    }
    const auto kind = static_cast<size_t>(OperationOf(seed, count).kind);
    std::this_thread::sleep_for(share * durations[kind]);
    ::kill(worker, SIGKILL);
    ASSERT_EQ(WaitFor(worker), -1) << "the worker ended by itself: operation=" << count;
    while (acknowledgements.Next(&count)) continue;
    ::close(pipe[0]);
    ++num_killed_in[OperationOf(seed, count).kind];
    const pid_t verifier = ::fork();
    if (verifier == 0) {
      const int state = steps.verify(count);
      std::fflush(stdout);
      ::_exit(testing::Test::HasFailure() ? 1 : state);
    }
    const int state = WaitFor(verifier);
    ASSERT_TRUE(state == kIsBefore || state == kIsAfter) << "state=" << state << " kill=" << kill;
    if (state == kIsAfter) {
      ++count;
      ++num_finished_unacknowledged;
    }
    ++num_killed;
  }
  num_acknowledged += count;
  std::string killed_in;
  for (const auto& [kind, num_kills_in] : num_killed_in) {
    killed_in += std::string(killed_in.empty() ? "" : ", ") +
                 kOperationNames[static_cast<size_t>(kind)] + " " + std::to_string(num_kills_in);
  }
  std::printf(
      "%lld kills (%s), %lld operations, of these %lld finished without being "
      "acknowledged: 0 lost, 0 resurrected, 0 wrong\n",
      static_cast<long long>(num_killed), killed_in.c_str(),
      static_cast<long long>(num_acknowledged),
      static_cast<long long>(num_finished_unacknowledged));
}

}  // namespace intarsia::storage
