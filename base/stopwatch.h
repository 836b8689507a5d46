// Stopwatch: the time since it was made, for measurements that are shown.
//
// Thread safety: immutable; concurrent calls are safe.
#pragma once

#include <chrono>

namespace intarsia {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  double milliseconds() const { return 1e3 * seconds(); }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace intarsia
