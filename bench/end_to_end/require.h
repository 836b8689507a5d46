// Require: the value of a Result, or the end of a benchmark program.
//
// It throws, so that temporary directories go on the way out; main catches and prints.
//
// Thread safety: may be called concurrently.
#pragma once

#include <stdexcept>
#include <utility>

#include "base/result.h"

namespace intarsia::bench {

inline void Require(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

template <typename T>
T Require(Result<T> result) {
  Require(result.status());
  return *std::move(result);
}

}  // namespace intarsia::bench
