#include "client/shell/interrupt.h"

#include <atomic>
#include <cstdint>
#include <ctime>

#include <signal.h>
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
struct sigaction previous_action {};

static_assert(std::atomic<CancelToken*>::is_always_lock_free &&
                  std::atomic<int64_t>::is_always_lock_free,
              "a signal handler may not lock");

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

void OnInterrupt(int) {
  was_interrupted.store(true, std::memory_order_relaxed);
  CancelToken* const token = running_token.load(std::memory_order_relaxed);
  if (token == nullptr) return;
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
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // Without SA_RESTART, so that reading a line ends.
  sigaction(SIGINT, &action, &previous_action);
}

InterruptHandler::~InterruptHandler() {
  sigaction(SIGINT, &previous_action, nullptr);
  has_handler.store(false);
}

void InterruptHandler::BeginStatement(CancelToken* token) {
  token->Reset();
  was_interrupted.store(false, std::memory_order_relaxed);
  cancelled_at_ms.store(-1, std::memory_order_relaxed);
  running_token.store(token, std::memory_order_relaxed);
}

void InterruptHandler::EndStatement() { running_token.store(nullptr, std::memory_order_relaxed); }

bool InterruptHandler::TakeInterrupt() {
  return was_interrupted.exchange(false, std::memory_order_relaxed);
}

}  // namespace intarsia::client
