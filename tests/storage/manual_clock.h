// ManualClock: a time of day that stands still until a test moves it.
//
// Thread safety: thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace intarsia::storage {

class ManualClock : public Clock {
 public:
  int64_t NowSeconds() const override { return now_.load(); }
  void Advance(int64_t seconds) { now_ += seconds; }

 private:
  std::atomic<int64_t> now_{1'700'000'000};
};

}  // namespace intarsia::storage
