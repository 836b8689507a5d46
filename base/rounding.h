// DivideUp and RoundUp: whole parts and multiples that hold a count.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>

namespace intarsia {

// The fewest parts of `divisor` that hold `value`. REQUIRES: value >= 0, divisor > 0, and their sum
// does not overflow.
constexpr int64_t DivideUp(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

// The smallest multiple of `multiple` that is not below `value`. REQUIRES: as DivideUp.
constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return DivideUp(value, multiple) * multiple;
}

}  // namespace intarsia
