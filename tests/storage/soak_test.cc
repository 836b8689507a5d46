// kill -9 in the middle of everything a store does, against a model of what was acknowledged.
//
// Every operation follows from the seed and its number. A child process carries them out, says when
// each is done, and is killed; another then finds the state after the last operation that was
// acknowledged or after the one in flight, every cache whole or absent, nothing deleted, and a
// backup that is whole or says that it is not. Ten kills a run; `make soak` repeats runs with other
// seeds:
//   storage_soak_test --gtest_repeat=100 --gtest_shuffle --gtest_random_seed=1
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/backup.h"
#include "storage/database.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

constexpr int kNumKills = 10;
constexpr uint64_t kNumSources = 12;
constexpr int64_t kBudget = 400'000;  // of caches; each takes 24 KiB, so some are evicted
// What the verifying process ends with.
constexpr int kIsBefore = 20;  // the operation in flight has no effect
constexpr int kIsAfter = 21;   // it has

enum class Kind : uint8_t { kPut, kDelete, kCache, kClear, kCompact, kBackUp, kCheck };

struct Operation {
  Kind kind = Kind::kPut;
  uint64_t source = 0;
};

Operation OperationOf(uint64_t seed, int64_t number) {
  std::mt19937_64 random(seed * 1'000'003 + static_cast<uint64_t>(number));
  static constexpr Kind kKinds[] = {Kind::kPut,   Kind::kPut,   Kind::kPut,    Kind::kPut,
                                    Kind::kPut,   Kind::kPut,   Kind::kCache,  Kind::kCache,
                                    Kind::kCache, Kind::kCache, Kind::kDelete, Kind::kDelete};
  Operation operation;
  const uint64_t draw = random() % 100;
  operation.kind = draw == 0   ? Kind::kClear
                   : draw == 1 ? Kind::kCompact
                   : draw <= 3 ? Kind::kBackUp
                   : draw == 4 ? Kind::kCheck
                               : kKinds[random() % std::size(kKinds)];
  operation.source = random() % kNumSources;
  return operation;
}

std::string SourceOf(uint64_t source) { return "source " + std::to_string(source); }
std::string TextOf(int64_t number) {
  std::string text = "operation " + std::to_string(number) + ":";
  for (int64_t i = 0; i < number % 9; ++i) text += " and so on";
  return text;
}
// The cache of the document that an operation put.
SampleCache CacheOf(int64_t number) { return {"cache " + std::to_string(number), 2, 9'000}; }

// Which operation put the document that stands under each source, after `count` operations.
std::map<uint64_t, int64_t> StateAfter(uint64_t seed, int64_t count) {
  std::map<uint64_t, int64_t> state;
  for (int64_t number = 0; number < count; ++number) {
    const Operation operation = OperationOf(seed, number);
    if (operation.kind == Kind::kPut) state[operation.source] = number;
    if (operation.kind == Kind::kDelete) state.erase(operation.source);
  }
  return state;
}

std::unique_ptr<Database> OpenSmall(const std::string& path) {
  DatabaseOptions options;
  options.kv_bytes_max = kBudget;
  options.kv_memory_bytes_max = kBudget / 4;
  return OpenDatabase(path, options);
}

class Worker {
 public:
  Worker(const std::string& folder, uint64_t seed)
      : folder_(folder), seed_(seed), database_(OpenSmall(folder + "/kb")) {
    docs_ = Must(database_->Read().FindCollection("docs")).id;
  }

  void Do(int64_t number) {
    const Operation operation = OperationOf(seed_, number);
    const std::string source = SourceOf(operation.source);
    switch (operation.kind) {
      case Kind::kPut:
        PutOne(database_.get(), docs_, SampleDocument(source, TextOf(number), 0));
        return;
      case Kind::kDelete: {
        const auto found = database_->Read().GetDocumentBySource(docs_, source);
        if (found.ok()) Must(database_->DeleteDocuments({&found->id, 1}));
        return;
      }
      case Kind::kCache: {
        const auto state = StateAfter(seed_, number);
        const auto put = state.find(operation.source);
        const auto found = database_->Read().GetDocumentBySource(docs_, source);
        if (put == state.end() || !found.ok()) return;
        PutCache(database_.get(), CacheOf(put->second),
                 {.collection = docs_, .document = found->id, .chunk = found->first_chunk});
        IsServed(database_->kv(), CacheOf(put->second));
        return;
      }
      case Kind::kClear:
        Must(database_->kv()->DeleteByCollection(docs_));
        return;
      case Kind::kCompact:
        Must(database_->Compact());
        return;
      case Kind::kBackUp:
        std::filesystem::remove_all(folder_ + "/bk");
        Must(database_->BackUp(folder_ + "/bk", {}));
        return;
      case Kind::kCheck:
        if (Must(database_->Check(
                     {.mode = CheckMode::kRepair, .cancel = nullptr, .on_progress = {}}))
                .num_findings != 0) {
          std::abort();
        }
        return;
    }
  }

 private:
  const std::string folder_;
  const uint64_t seed_;
  std::unique_ptr<Database> database_;
  CollectionId docs_ = 0;
};

// Carries out operations from `first` on and acknowledges each, until killed.
[[noreturn]] void WorkUntilKilled(const std::string& folder, uint64_t seed, int64_t first,
                                  int acknowledge) {
  Worker worker(folder, seed);
  for (int64_t number = first;; ++number) {
    worker.Do(number);
    if (::write(acknowledge, &number, sizeof(number)) != sizeof(number)) ::_exit(1);
  }
}

// Whether the documents are exactly those of `state`.
bool Holds(const ReadView& view, CollectionId docs, const std::map<uint64_t, int64_t>& state) {
  std::map<uint64_t, int64_t> expected = state;
  for (uint64_t source = 0; source < kNumSources; ++source) {
    const auto document = view.GetDocumentBySource(docs, SourceOf(source));
    const auto put = expected.find(source);
    if (document.ok() != (put != expected.end())) return false;
    if (document.ok() && Must(view.GetText(document->text_digest)) != TextOf(put->second)) {
      return false;
    }
  }
  return Must(view.GetStats(docs)).num_documents == static_cast<int64_t>(state.size());
}

// Verifies the database after `count` acknowledged operations; returns which state it has.
int Verify(const std::string& folder, uint64_t seed, int64_t count) {
  const auto database = OpenSmall(folder + "/kb");
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
  EXPECT_EQ(report.num_findings, 0) << report.findings[0].object << report.findings[0].problem;
  if (const auto checked = CheckBackup(folder + "/bk", {}); !checked.ok()) {
    EXPECT_EQ(checked.status().code(), StatusCode::kNotFound) << checked.status().ToString();
  }
  return state;
}

TEST(SoakTest, KillsLoseNothingAcknowledgedAndBringNothingBack) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "many processes, each with one thread of ours: nothing to find here";
#endif
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE("seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const TemporaryDirectory folder;
  const auto wait_for = [](pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  if (const pid_t child = ::fork(); child == 0) {
    Must(OpenSmall(folder / "kb")->CreateCollection(SampleCollection("docs")));
    ::_exit(0);
  } else {
    ASSERT_EQ(wait_for(child), 0);
  }
  int64_t count = 0;  // operations that are known to be done
  for (int kill = 0; kill < kNumKills; ++kill) {
    int acknowledgements[2];
    ASSERT_EQ(::pipe(acknowledgements), 0);
    const pid_t worker = ::fork();
    if (worker == 0) WorkUntilKilled(folder / "", seed, count, acknowledgements[1]);
    ::close(acknowledgements[1]);
    int64_t number = 0;
    for (uint64_t wanted = random() % 40; wanted > 0; --wanted) {
      if (::read(acknowledgements[0], &number, sizeof(number)) != sizeof(number)) break;
      count = number + 1;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
    ::kill(worker, SIGKILL);
    ASSERT_EQ(wait_for(worker), -1) << "the worker ended by itself: operation=" << count;
    while (::read(acknowledgements[0], &number, sizeof(number)) == sizeof(number)) {
      count = number + 1;
    }
    ::close(acknowledgements[0]);
    const pid_t verifier = ::fork();
    if (verifier == 0) {
      const int state = Verify(folder / "", seed, count);
      std::fflush(stdout);
      ::_exit(testing::Test::HasFailure() ? 1 : state);
    }
    const int state = wait_for(verifier);
    ASSERT_TRUE(state == kIsBefore || state == kIsAfter) << "state=" << state << " kill=" << kill;
    if (state == kIsAfter) ++count;
  }
}

}  // namespace
}  // namespace intarsia::storage
