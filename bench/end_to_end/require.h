// Require: the value of a Result, or the end of a benchmark program with the error on its lips.
//
// Thread safety: owned by the thread of main, because exit runs destructors.
#pragma once

#include <cstdlib>
#include <iostream>
#include <utility>

#include "base/result.h"

namespace intarsia::bench {

inline void Require(const Status& status) {
  if (status.ok()) return;
  std::cerr << "error: " << status.ToString() << "\n";
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a benchmark calls it from one thread, and ends there.
  std::exit(1);
}

template <typename T>
T Require(Result<T> result) {
  Require(result.status());
  return *std::move(result);
}

}  // namespace intarsia::bench
