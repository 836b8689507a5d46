// kill -9 in the middle of everything a store does, against a model of what was acknowledged.
//
// A child process carries out the operations of soak_workload.h, says when each is done, and is
// killed; another then verifies what there is. Ten kills a run; `make soak` repeats runs with other
// seeds:
//   storage_soak_test --gtest_repeat=100 --gtest_shuffle --gtest_random_seed=1
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "tests/storage/soak_workload.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

constexpr int kNumKills = 10;
constexpr OperationKind kKinds[] = {
    OperationKind::kPut,     OperationKind::kIngest, OperationKind::kDelete,
    OperationKind::kErase,   OperationKind::kCache,  OperationKind::kClear,
    OperationKind::kCompact, OperationKind::kBackUp, OperationKind::kBackUpSince,
    OperationKind::kRestore, OperationKind::kCheck};

TEST(SoakTest, KillsLoseNothingAcknowledgedAndBringNothingBack) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "many processes, each with one thread of ours: nothing to find here";
#endif
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE("seed=" + std::to_string(seed));
  const TemporaryDirectory folder;
  const std::string home = folder / "";
  RunKills(
      seed, kNumKills,
      {.kinds = kKinds,
       .make =
           [&] { Must(OpenSmall(DatabaseIn(home))->CreateCollection(SampleCollection("docs"))); },
       .work = [&](int64_t first,
                   int acknowledge) { WorkUntilEnded(home, seed, first, acknowledge); },
       .verify = [&](int64_t count) { return Verify(home, seed, count, AfterEnd::kOfProcess); }});
}

}  // namespace
}  // namespace intarsia::storage
