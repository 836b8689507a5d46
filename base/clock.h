// Clock: the time of day, passed in where a test must move it.
//
// Thread safety: thread-safe.
#pragma once

#include <chrono>
#include <cstdint>

namespace intarsia {

class Clock {
 public:
  virtual ~Clock() = default;

  // Seconds since the beginning of 1970, UTC. It may go backwards when the machine's is set.
  virtual int64_t NowSeconds() const {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }

  // The machine's. Lives as long as the program.
  static const Clock* System() {
    static const Clock clock;
    return &clock;
  }
};

}  // namespace intarsia
