#include "client/shell/interrupt.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

namespace intarsia::client {
namespace {

constexpr int64_t kSecondWithinMs = 2000;
constexpr int kExitInterrupted = 130;  // As a shell reports a program ended by SIGINT.

// A signal handler has no argument, so what it needs is global: the one exception to the rule.
std::atomic<CancelToken*> running_token{nullptr};
std::atomic<int64_t> cancelled_at_ms{-1};
std::atomic<bool> was_interrupted{false};
std::atomic<bool> has_handler{false};
std::atomic<int> wake_descriptor{-1};
struct sigaction previous_action {};

static_assert(std::atomic<CancelToken*>::is_always_lock_free &&
                  std::atomic<int64_t>::is_always_lock_free,
              "a signal handler may not lock");

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Neither a full counter nor a missing descriptor needs anything done.
void WakePrompt() {
  const int saved_errno = errno;
  constexpr uint64_t kOne = 1;
  [[maybe_unused]] const ssize_t written =
      write(wake_descriptor.load(std::memory_order_relaxed), &kOne, sizeof(kOne));
  errno = saved_errno;
}
void CalmPrompt() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t size =
      read(wake_descriptor.load(std::memory_order_relaxed), &count, sizeof(count));
}

void OnInterrupt(int) {
  was_interrupted.store(true);
  CancelToken* const token = running_token.load();
  if (token == nullptr) {
    WakePrompt();
    return;
  }
  const int64_t now = NowMs();
  const int64_t first = cancelled_at_ms.exchange(now, std::memory_order_relaxed);
  if (first >= 0 && now - first < kSecondWithinMs) {
    constexpr char kNewline = '\n';
    // Nobody is left to tell if this fails.
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, &kNewline, 1);
    _exit(kExitInterrupted);
  }
  token->Cancel();
}

}  // namespace

InterruptHandler::InterruptHandler() {
  INTARSIA_CHECK(!has_handler.exchange(true));
  was_interrupted.store(false);
  wake_descriptor.store(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // Without SA_RESTART, so that reading a line ends.
  sigaction(SIGINT, &action, &previous_action);
}

InterruptHandler::~InterruptHandler() {
  sigaction(SIGINT, &previous_action, nullptr);
  running_token.store(nullptr);  // may live no longer than this
  if (const int descriptor = wake_descriptor.exchange(-1); descriptor >= 0) close(descriptor);
  has_handler.store(false);
}

void InterruptHandler::BeginStatement(CancelToken* token) {
  token->Reset();
  cancelled_at_ms.store(-1, std::memory_order_relaxed);
  // In this order, so that an interrupt is seen here or finds the token.
  running_token.store(token);
  if (was_interrupted.load()) token->Cancel();
  CalmPrompt();
}

void InterruptHandler::EndStatement() { running_token.store(nullptr); }

bool InterruptHandler::TakeInterrupt() {
  CalmPrompt();
  return was_interrupted.exchange(false);
}

int InterruptHandler::wake_fd() const { return wake_descriptor.load(); }

}  // namespace intarsia::client
