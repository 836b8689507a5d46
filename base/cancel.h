// CancelToken: how a caller asks long work to stop.
//
// Work looks at it between steps that take milliseconds and returns kCancelled.
//
// Thread safety: thread-safe; Cancel() may be called from a signal handler.
#pragma once

#include <atomic>

#include "base/status.h"

namespace intarsia {

class CancelToken {
 public:
  void Cancel() noexcept { is_cancelled_.store(true, std::memory_order_relaxed); }
  void Reset() noexcept { is_cancelled_.store(false, std::memory_order_relaxed); }
  bool is_cancelled() const noexcept { return is_cancelled_.load(std::memory_order_relaxed); }

  // kCancelled once Cancel() was called, else OK.
  Status Check() const {
    return is_cancelled() ? Status(StatusCode::kCancelled, "cancelled") : Status::Ok();
  }

 private:
  std::atomic<bool> is_cancelled_{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may not lock");
};

}  // namespace intarsia
