// The power goes at any call that changes or syncs a file, and disks fail in every way: what was
// acknowledged is there, and nothing that was deleted.
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/storage/faulty_disk.h"
#include "tests/storage/soak_workload.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

namespace fs = std::filesystem;

constexpr int kNumCuts = 12;
constexpr int64_t kCallsMax = 500;
constexpr int64_t kFaultyOperations = 90;

class PowerCutTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "many processes, each with one thread of ours: nothing to find here";
#endif
    fs::create_directory(home());
    if (!FaultyDisk::IsPossible(home())) GTEST_SKIP() << "no folder in memory to try this in";
    ASSERT_EQ(InChild([&] {
                Must(OpenSmall(DatabaseIn(home()))->CreateCollection(SampleCollection("docs")));
                return 0;
              }),
              0);
  }
  std::string home() const { return folder_ / "home"; }
  std::string survivors() const { return folder_ / "survivors"; }

  // Runs `body` in a process of its own, which ends with what it returns, or with 1 if an
  // expectation fails there; -1 if a signal ended it.
  template <typename Body>
  static int InChild(const Body& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      SetLogLevel(LogLevel::kError);
      const int result = body();
      std::fflush(stdout);
      ::_exit(testing::Test::HasFailure() ? 1 : result);
    }
    return WaitFor(child);
  }

  // Works from operation `*count` on until the power goes; sets what was acknowledged.
  static int WorkUntilCut(const std::string& folder, const std::string& survivors, uint64_t seed,
                          const DiskFaults& faults, int64_t* count) {
    int acknowledgements[2];
    EXPECT_EQ(::pipe(acknowledgements), 0);
    const int64_t first = *count;
    const int status = InChild([&]() -> int {
      ::close(acknowledgements[0]);
      FaultyDisk::Begin(folder, survivors, faults);
      WorkUntilEnded(folder, seed, first, acknowledgements[1]);
    });
    ::close(acknowledgements[1]);
    int64_t number = 0;
    while (::read(acknowledgements[0], &number, sizeof(number)) == sizeof(number)) {
      *count = number + 1;
    }
    ::close(acknowledgements[0]);
    return status;
  }

  TemporaryDirectory folder_;
};

TEST_F(PowerCutTest, WhatWasAcknowledgedIsThereWhenThePowerComesBack) {
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  std::mt19937_64 random(seed);
  int64_t count = 0;
  for (int cut = 0; cut < kNumCuts; ++cut) {
    SCOPED_TRACE("seed=" + std::to_string(seed) + " cut=" + std::to_string(cut));
    DiskFaults faults;
    faults.seed = random();
    faults.calls_until_cut = static_cast<int64_t>(random() % kCallsMax);
    ASSERT_EQ(WorkUntilCut(home(), survivors(), seed, faults, &count), FaultyDisk::kPowerLost);
    fs::remove_all(home());
    fs::rename(survivors(), home());
    const int state = InChild([&] { return Verify(home(), seed, count, AfterEnd::kOfPower); });
    ASSERT_TRUE(state == kIsBefore || state == kIsAfter)
        << "state=" << state << " acknowledged=" << count << " calls=" << faults.calls_until_cut;
    if (state == kIsAfter) ++count;
  }
}

// What may stand under a source: the numbers of operations that put it, or kGone. Only a failed
// operation leaves more than one.
constexpr int64_t kGone = -1;
using Possible = std::map<uint64_t, std::set<int64_t>>;

// Whether every document is one of those that are possible, with its text.
void ExpectPossible(Database* database, const Possible& possible) {
  const ReadView view = database->Read();
  const CollectionId docs = Must(view.FindCollection("docs")).id;
  for (uint64_t source = 0; source < kNumSources; ++source) {
    const auto found = view.GetDocumentBySource(docs, SourceOf(source));
    const std::set<int64_t>& numbers = possible.at(source);
    if (!found.ok()) {
      ASSERT_EQ(found.status().code(), StatusCode::kNotFound) << found.status();
      EXPECT_TRUE(numbers.contains(kGone)) << "lost: source " << source;
      continue;
    }
    const std::string text = Must(view.GetText(found->text_digest));
    bool is_possible = false;
    for (const int64_t number : numbers) {
      is_possible = is_possible || (number != kGone && text == TextOf(number));
    }
    EXPECT_TRUE(is_possible) << "source " << source << ": " << text;
  }
}

// One operation on a disk that may fail; what fails may have come through all the same.
void DoOnFaultyDisk(Database* database, CollectionId docs, uint64_t seed, int64_t number,
                    Possible* possible) {
  const Operation operation = OperationOf(seed, number);
  const std::string source = SourceOf(operation.source);
  std::set<int64_t>& numbers = (*possible)[operation.source];
  const auto take = [&numbers](const Status& status, int64_t outcome) {
    if (status.ok()) numbers.clear();
    numbers.insert(outcome);
  };
  if (operation.kind == OperationKind::kPut) {
    const NewDocument document = SampleDocument(source, TextOf(number), 0);
    take(database->PutDocuments(docs, {&document, 1}).status(), number);
  } else if (operation.kind == OperationKind::kDelete) {
    const auto found = database->Read().GetDocumentBySource(docs, source);
    if (found.ok()) take(database->DeleteDocuments({&found->id, 1}).status(), kGone);
  } else if (operation.kind == OperationKind::kCompact) {
    database->Compact().status().IgnoreError();  // It changes nothing that is looked at here.
  } else {
    const auto found = database->Read().GetDocumentBySource(docs, source);
    if (!found.ok()) return;
    const SampleCache cache = CacheOf(number);
    const KvPut put =
        cache.Put({.collection = docs, .document = found->id, .chunk = found->first_chunk},
                  database->kv()->generation());
    // A cache is there or not; wrong bytes end the program.
    database->kv()->Put(put).status().IgnoreError();
    IsServed(database->kv(), cache);
  }
}

// Works on a database whose disk has `faults`, opening it anew now and then, and verifies it.
int WorkOnFaultyDisk(const std::string& folder, uint64_t seed, const DiskFaults& faults) {
  Possible possible;
  for (uint64_t source = 0; source < kNumSources; ++source) possible[source] = {kGone};
  FaultyDisk::Begin(folder, "", faults);
  for (int64_t number = 0; number < kFaultyOperations;) {
    auto database = Database::Open(DatabaseIn(folder), {.kv_bytes_max = kBudget});
    if (database.ok()) {
      if (const auto docs = (*database)->Read().FindCollection("docs"); docs.ok()) {
        const int64_t end = number + kFaultyOperations / 3;
        for (; number < end; ++number) {
          DoOnFaultyDisk(database->get(), docs->id, seed, number, &possible);
        }
      }
    }
    // As after the disk was mended; opening it may have failed.
    FaultyDisk::End();
    database = Status(StatusCode::kUnavailable, "closed");
    {
      const auto mended = OpenSmall(DatabaseIn(folder));
      ExpectPossible(mended.get(), possible);
      for (const CheckFinding& finding : Must(mended->Check({})).findings) {
        EXPECT_TRUE(finding.object.starts_with("kv cache")) << finding.object << finding.problem;
      }
    }
    DiskFaults next = faults;
    next.seed += static_cast<uint64_t>(number) + 1;
    number += kFaultyOperations / 30;  // also if nothing could be done
    FaultyDisk::Begin(folder, "", next);
  }
  FaultyDisk::End();
  return 0;
}

// A log that failed may hold half a record and is not written again; where nothing could be flushed
// instead, the database has to be opened anew. In any case it can be.
TEST_F(PowerCutTest, AFullDiskRefusesWritesAndTakesThemWhenThereIsRoomAgain) {
  constexpr int kIsTaken = 2;  // there was room again without opening the database anew
  constexpr int kIsRefused = 3;
  DiskFaults full;
  full.failures_per_thousand = 1'000;
  full.error = ENOSPC;
  for (const bool has_written : {false, true}) {
    SCOPED_TRACE(has_written);
    const std::string first = has_written ? "written before" : "opened before";
    const std::string second = first + ", refused";
    const int outcome = InChild([&] {
      const auto database = OpenSmall(DatabaseIn(home()));
      const CollectionId docs = Must(database->Read().FindCollection("docs")).id;
      if (has_written) PutOne(database.get(), docs, SampleDocument(first, "one", 0));
      const NewDocument document = SampleDocument(second, "two", 0);
      FaultyDisk::Begin(home(), "", full);
      Status status = database->PutDocuments(docs, {&document, 1}).status();
      FaultyDisk::End();
      EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
      status = database->PutDocuments(docs, {&document, 1}).status();
      return status.ok() ? kIsTaken : kIsRefused;
    });
    ASSERT_TRUE(outcome == kIsTaken || outcome == kIsRefused) << outcome;
    EXPECT_EQ(InChild([&] {
                const auto database = OpenSmall(DatabaseIn(home()));
                EXPECT_EQ(Must(database->Check({})).num_findings, 0);
                const ReadView view = database->Read();
                const CollectionId docs = Must(view.FindCollection("docs")).id;
                EXPECT_EQ(view.GetDocumentBySource(docs, first).ok(), has_written);
                const bool is_there = view.GetDocumentBySource(docs, second).ok();
                EXPECT_TRUE(is_there || outcome == kIsRefused);
                PutOne(database.get(), docs, SampleDocument(second, "two again", 0));
                return 0;
              }),
              0);
  }
}

TEST_F(PowerCutTest, ADiskThatFailsLosesNothingAndInventsNothing) {
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  std::map<std::string, DiskFaults> cases;
  cases["errors"].failures_per_thousand = 20;
  cases["no space"].failures_per_thousand = 20;
  cases["no space"].error = ENOSPC;
  cases["unreadable"].read_failures_per_thousand = 20;
  cases["in small pieces"].transfer_bytes_max = 100;
  cases["slow"].sync_us_max = 500;
  for (auto& [name, faults] : cases) {
    SCOPED_TRACE(name + " seed=" + std::to_string(seed));
    faults.seed = seed;
    const std::string folder = home() + "/" + name;
    fs::create_directory(folder);
    fs::copy(DatabaseIn(home()), DatabaseIn(folder), fs::copy_options::recursive);
    EXPECT_EQ(InChild([&] { return WorkOnFaultyDisk(folder, seed, faults); }), 0);
  }
}

}  // namespace
}  // namespace intarsia::storage
