// kill -9 in the middle of everything a store does, against a model of what was acknowledged.
//
// A child process carries out the operations of soak_workload.h, says when each is done, and is
// killed; another then verifies what there is. Ten kills a run; `make soak` repeats runs with other
// seeds:
//   storage_soak_test --gtest_repeat=100 --gtest_shuffle --gtest_random_seed=1
//
// This process opens no database itself: RocksDB's threads would not survive the forks.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/storage/soak_workload.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

constexpr int kNumKills = 10;

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
    if (worker == 0) WorkUntilEnded(folder / "", seed, count, acknowledgements[1]);
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
      const int state = Verify(folder / "", seed, count, AfterEnd::kOfProcess);
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
