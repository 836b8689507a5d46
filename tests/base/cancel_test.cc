#include "base/cancel.h"

#include <thread>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

TEST(CancelTokenTest, IsQuietUntilCancelled) {
  CancelToken token;
  EXPECT_FALSE(token.is_cancelled());
  EXPECT_TRUE(token.Check().ok());
  token.Cancel();
  EXPECT_TRUE(token.is_cancelled());
  EXPECT_EQ(token.Check().code(), StatusCode::kCancelled);
}

TEST(CancelTokenTest, ResetMakesItReusable) {
  CancelToken token;
  token.Cancel();
  token.Reset();
  EXPECT_TRUE(token.Check().ok());
}

TEST(CancelTokenTest, AnotherThreadStopsALoop) {
  CancelToken token;
  std::thread other([&token] { token.Cancel(); });
  while (token.Check().ok()) std::this_thread::yield();
  other.join();
  EXPECT_EQ(token.Check().code(), StatusCode::kCancelled);
}

TEST(CancelTokenTest, AParentStopsItsChildAndNotTheOtherWayRound) {
  CancelToken parent;
  CancelToken child(&parent, CancelToken::Clock::time_point::max());
  child.Cancel();
  EXPECT_EQ(child.Check().code(), StatusCode::kCancelled);
  EXPECT_TRUE(parent.Check().ok());
  child.Reset();
  EXPECT_TRUE(child.Check().ok());
  parent.Cancel();
  EXPECT_TRUE(child.is_cancelled());
  EXPECT_EQ(child.Check().code(), StatusCode::kCancelled);
}

TEST(CancelTokenTest, ADeadlineThatPassedIsNoCancellation) {
  const CancelToken late(nullptr, CancelToken::Clock::now());
  EXPECT_FALSE(late.is_cancelled());
  EXPECT_EQ(late.Check().code(), StatusCode::kDeadlineExceeded);
  const CancelToken child(&late, CancelToken::Clock::time_point::max());
  EXPECT_EQ(child.Check().code(), StatusCode::kDeadlineExceeded);
  const CancelToken early(nullptr, CancelToken::Clock::now() + std::chrono::hours(1));
  EXPECT_TRUE(early.Check().ok());
}

}  // namespace
}  // namespace intarsia
