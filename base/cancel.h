// CancelToken: how a caller asks long work to stop.
//
// Work looks at it between steps that take milliseconds and returns what Check says. A token may
// have a deadline and a parent: it counts as cancelled once its own Cancel or its parent's was
// called, and as too late from the deadline on.
//
// Thread safety: thread-safe; Cancel() may be called from a signal handler.
// Lifetime: the parent must outlive the token.
#pragma once

#include <atomic>
#include <chrono>

#include "base/status.h"

namespace intarsia {

class CancelToken {
 public:
  using Clock = std::chrono::steady_clock;

  CancelToken() = default;
  // `parent` may be null.
  CancelToken(const CancelToken* parent, Clock::time_point deadline)
      : parent_(parent), deadline_(deadline) {}

  void Cancel() noexcept { is_cancelled_.store(true, std::memory_order_relaxed); }
  // Takes back Cancel; the parent and the deadline stay.
  void Reset() noexcept { is_cancelled_.store(false, std::memory_order_relaxed); }
  // Says nothing about the deadline.
  bool is_cancelled() const noexcept {
    return is_cancelled_.load(std::memory_order_relaxed) ||
           (parent_ != nullptr && parent_->is_cancelled());
  }

  // kCancelled once Cancel() was called, kDeadlineExceeded behind the deadline, else OK.
  Status Check() const {
    if (is_cancelled()) return Status(StatusCode::kCancelled, "cancelled");
    if (deadline_ != Clock::time_point::max() && Clock::now() >= deadline_) {
      return Status(StatusCode::kDeadlineExceeded, "deadline exceeded");
    }
    return parent_ == nullptr ? Status::Ok() : parent_->Check();
  }

 private:
  std::atomic<bool> is_cancelled_{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may not lock");
  const CancelToken* const parent_ = nullptr;
  const Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace intarsia
