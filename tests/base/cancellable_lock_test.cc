#include "base/cancellable_lock.h"

#include <thread>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

TEST(CancellableLockTest, HoldsAFreeMutexWhetherCancelledOrNot) {
  std::mutex mutex;
  CancelToken cancel;
  cancel.Cancel();
  for (const CancelToken* token :
       {static_cast<const CancelToken*>(nullptr), static_cast<const CancelToken*>(&cancel)}) {
    const auto lock = LockUnlessCancelled(&mutex, token);
    ASSERT_TRUE(lock.ok());
    EXPECT_TRUE(lock->owns_lock());
    std::thread([&mutex] { EXPECT_FALSE(mutex.try_lock()); }).join();
  }
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST(CancellableLockTest, WhoIsCancelledDoesNotWaitForTheHolder) {
  std::mutex mutex;
  const std::unique_lock held(mutex);
  std::thread([&mutex] {
    CancelToken cancel;
    cancel.Cancel();
    EXPECT_EQ(LockUnlessCancelled(&mutex, &cancel).status().code(), StatusCode::kCancelled);
  }).join();
}

TEST(CancellableLockTest, WhoWaitsGetsItNext) {
  std::mutex mutex;
  std::unique_lock held(mutex);
  std::thread waiting([&mutex] { EXPECT_TRUE(LockUnlessCancelled(&mutex, nullptr).ok()); });
  held.unlock();
  waiting.join();
}

}  // namespace
}  // namespace intarsia
