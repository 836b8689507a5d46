#include "client/shell/interrupt.h"

#include <csignal>

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

namespace intarsia::client {
namespace {

bool IsReadable(int descriptor) {
  pollfd source = {.fd = descriptor, .events = POLLIN, .revents = 0};
  return ::poll(&source, 1, 0) == 1;
}

TEST(InterruptTest, FirstInterruptCancelsTheStatement) {
  InterruptHandler interrupts;
  CancelToken token;
  token.Cancel();
  interrupts.BeginStatement(&token);
  EXPECT_FALSE(token.is_cancelled());
  std::raise(SIGINT);
  EXPECT_TRUE(token.is_cancelled());
  interrupts.EndStatement();
  EXPECT_TRUE(interrupts.TakeInterrupt());
  EXPECT_FALSE(interrupts.TakeInterrupt());
}

TEST(InterruptTest, InterruptAtThePromptCancelsNothing) {
  InterruptHandler interrupts;
  CancelToken token;
  interrupts.BeginStatement(&token);
  interrupts.EndStatement();
  std::raise(SIGINT);
  std::raise(SIGINT);
  EXPECT_FALSE(token.is_cancelled());
  EXPECT_TRUE(IsReadable(interrupts.wake_fd()));
  EXPECT_TRUE(interrupts.TakeInterrupt());
  EXPECT_FALSE(IsReadable(interrupts.wake_fd()));
  interrupts.BeginStatement(&token);
  EXPECT_FALSE(token.is_cancelled());
  interrupts.EndStatement();
}

TEST(InterruptTest, AHandlerThatIsGoneForgetsItsStatement) {
  CancelToken token;
  { InterruptHandler().BeginStatement(&token); }
  const InterruptHandler next;
  std::raise(SIGINT);
  EXPECT_FALSE(token.is_cancelled());
}

TEST(InterruptTest, InterruptBetweenTwoStatementsCancelsTheNext) {
  InterruptHandler interrupts;
  std::raise(SIGINT);
  CancelToken token;
  interrupts.BeginStatement(&token);
  EXPECT_TRUE(token.is_cancelled());
  EXPECT_FALSE(IsReadable(interrupts.wake_fd()));
  interrupts.EndStatement();
}

TEST(InterruptTest, SecondInterruptLeaves) {
  EXPECT_EXIT(
      {
        InterruptHandler interrupts;
        CancelToken token;
        interrupts.BeginStatement(&token);
        std::raise(SIGINT);
        std::raise(SIGINT);
        _exit(0);
      },
      ::testing::ExitedWithCode(130), "");
}

TEST(InterruptTest, InterruptsOfTwoStatementsAreNoSecond) {
  EXPECT_EXIT(
      {
        InterruptHandler interrupts;
        CancelToken token;
        for (int i = 0; i < 3; ++i) {
          interrupts.BeginStatement(&token);
          std::raise(SIGINT);
          interrupts.EndStatement();
        }
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace intarsia::client
