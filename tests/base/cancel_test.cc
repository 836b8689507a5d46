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

}  // namespace
}  // namespace intarsia
