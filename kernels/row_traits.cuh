// RowTraits: a row of bf16 that a block keeps in registers, and the choice of the narrowest kernel
// that holds it.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/bf16_vector.cuh"

namespace intarsia::kernels {

// Thread t of a block has the vectors t, t + kThreads, ... of its row.
template <int kVectors_>
struct RowTraits {
  static constexpr int kVectors = kVectors_;  // of a thread
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarpLanes;
  static constexpr int64_t kDimMax = int64_t{kVectors} * kThreads * kVectorElements;
};

// Returns launch(RowTraits<n>()) for the first n of those given, in ascending order, whose rows
// hold `dim` elements. Errors: kUnsupported, naming `operation`, if none does; those of `launch`.
template <int kFirst, int... kRest, typename Launch>
Status LaunchForWidth(const char* operation, int64_t dim, const Launch& launch) {
  if (dim <= RowTraits<kFirst>::kDimMax) return launch(RowTraits<kFirst>());
  if constexpr (sizeof...(kRest) > 0) {
    return LaunchForWidth<kRest...>(operation, dim, launch);
  } else {
    return Status(StatusCode::kUnsupported, std::string(operation) + ": dim not compiled in");
  }
}

}  // namespace intarsia::kernels
