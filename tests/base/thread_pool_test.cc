#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

TEST(ThreadPoolTest, CallsEveryIndexOnce) {
  for (const int num_threads : {1, 2, 3, 8}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (const int64_t num_items : {0, 1, 2, 7, 1000}) {
      // Not atomic: each element belongs to one iteration, and the caller reads after all of them.
      std::vector<int> num_calls(static_cast<size_t>(num_items));
      pool.ParallelFor(num_items,
                       [&](int64_t index, int) { ++num_calls[static_cast<size_t>(index)]; });
      EXPECT_EQ(num_calls, std::vector<int>(static_cast<size_t>(num_items), 1));
    }
  }
}

TEST(ThreadPoolTest, ZeroThreadsMeansOneForEachCore) {
  const ThreadPool pool(0);
  EXPECT_GE(pool.num_threads(), 1);
  if (std::thread::hardware_concurrency() > 0) {
    EXPECT_EQ(pool.num_threads(), static_cast<int>(std::thread::hardware_concurrency()));
  }
}

TEST(ThreadPoolTest, NoItemsMeansNoCall) {
  ThreadPool pool(2);
  pool.ParallelFor(0, [](int64_t, int) { FAIL() << "called"; });
  pool.ParallelFor(-5, [](int64_t, int) { FAIL() << "called"; });
}

TEST(ThreadPoolTest, OneThreadWorksInTheCaller) {
  ThreadPool pool(1);
  const std::thread::id caller = std::this_thread::get_id();
  int64_t sum = 0;
  pool.ParallelFor(100, [&](int64_t index, int worker) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(worker, 0);
    sum += index;
  });
  EXPECT_EQ(sum, 4950);
}

// A worker's number is its scratch memory: two threads with one number would tear it.
TEST(ThreadPoolTest, NoTwoConcurrentCallsShareAWorker) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> num_inside(4);
  for (int round = 0; round < 20; ++round) {
    pool.ParallelFor(64, [&](int64_t, int worker) {
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, 4);
      auto& inside = num_inside[static_cast<size_t>(worker)];
      EXPECT_EQ(inside.fetch_add(1), 0);
      std::this_thread::yield();
      inside.fetch_sub(1);
    });
  }
}

TEST(ThreadPoolTest, ManyShortLoopsSeeTheResultsOfTheOneBefore) {
  ThreadPool pool(3);
  constexpr int64_t kNumItems = 7;
  std::vector<int64_t> values(kNumItems, 0);
  constexpr int kNumLoops = 3'000;
  for (int loop = 0; loop < kNumLoops; ++loop) {
    // Each index moves to its neighbour, so each loop reads what other threads wrote before.
    std::vector<int64_t> next(kNumItems);
    pool.ParallelFor(kNumItems, [&](int64_t index, int) {
      next[static_cast<size_t>(index)] = values[static_cast<size_t>((index + 1) % kNumItems)] + 1;
    });
    values.swap(next);
  }
  EXPECT_EQ(values, std::vector<int64_t>(kNumItems, kNumLoops));
}

TEST(ThreadPoolTest, LoopsAfterAPauseFindSleepingThreads) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int64_t> sum = 0;
    pool.ParallelFor(10, [&](int64_t index, int) { sum += index; });
    EXPECT_EQ(sum, 45);
  }
}

// The caller's first item ends only when others have done the rest, and the reverse: whoever is
// kept off its core, the other goes on.
TEST(ThreadPoolTest, AnySingleThreadCanDoAllOtherItems) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    constexpr int64_t kNumItems = 50;
    std::atomic<int64_t> num_others = 0;
    std::atomic<int> blocked = -1;  // the worker that claimed item 0
    pool.ParallelFor(kNumItems, [&](int64_t index, int worker) {
      if (index != 0) {
        ++num_others;
        return;
      }
      blocked = worker;
      while (num_others < kNumItems - 1) std::this_thread::yield();
    });
    EXPECT_EQ(num_others, kNumItems - 1);
    EXPECT_GE(blocked, 0);
  }
}

TEST(ThreadPoolTest, ManyMoreThreadsThanCoresDoNotMissALoop) {
  ThreadPool pool(16);
  int64_t sum = 0;
  for (int loop = 0; loop < 2'000; ++loop) {
    std::atomic<int64_t> done = 0;
    pool.ParallelFor(2, [&](int64_t, int) { ++done; });
    sum += done;  // all calls have returned
  }
  EXPECT_EQ(sum, 4'000);
}

TEST(ThreadPoolTest, SeveralCallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> num_loops_inside = 0;
  std::vector<int64_t> sums(4, 0);
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < sums.size(); ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 200; ++round) {
        std::vector<int64_t> squares(9);
        pool.ParallelFor(9, [&](int64_t index, int) {
          if (index == 0) {
            EXPECT_EQ(num_loops_inside.fetch_add(1), 0);
            num_loops_inside.fetch_sub(1);
          }
          squares[static_cast<size_t>(index)] = index * index;
        });
        sums[caller] += std::accumulate(squares.begin(), squares.end(), int64_t{0});
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sums, std::vector<int64_t>(4, int64_t{200} * 204));
}

TEST(ThreadPoolTest, EndsWhetherItsThreadsSpinOrSleepOrNeverRan) {
  for (int round = 0; round < 50; ++round) {
    const auto unused = std::make_unique<ThreadPool>(3);
    auto used = std::make_unique<ThreadPool>(3);
    std::atomic<int> num_calls = 0;
    used->ParallelFor(5, [&](int64_t, int) { ++num_calls; });
    if (round % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    used.reset();
    EXPECT_EQ(num_calls, 5);
  }
}

TEST(ThreadPoolTest, SeveralPoolsWorkSideBySide) {
  ThreadPool outer(2);
  std::vector<std::unique_ptr<ThreadPool>> inner;
  inner.push_back(std::make_unique<ThreadPool>(2));
  inner.push_back(std::make_unique<ThreadPool>(2));
  std::atomic<int> num_calls = 0;
  outer.ParallelFor(20, [&](int64_t, int worker) {
    inner[static_cast<size_t>(worker)]->ParallelFor(5, [&](int64_t, int) { ++num_calls; });
  });
  EXPECT_EQ(num_calls, 100);
}

TEST(ThreadPoolDeathTest, ANegativeNumberOfThreadsIsABug) {
  EXPECT_DEATH(ThreadPool(-1), "check failed");
}

}  // namespace
}  // namespace intarsia
