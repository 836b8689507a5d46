// FuseWithoutLostCaches: a fused prefill is tried again without the caches that turn out to be lost
// or broken while they are read.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "base/status.h"
#include "engine/fusion/prompt.h"

namespace intarsia::engine {

// How a try ended, and if it failed by a cache, by that of which segment.
struct FusionTry {
  Status status;
  std::optional<size_t> failed_segment;
};

// Calls attempt(prompt), which returns a FusionTry, until it succeeds, with one cache less after
// each failure by a cache that is not there; `lost` gets the segments of those.
// Errors: those of the last try.
template <typename Attempt>
Status FuseWithoutLostCaches(const Prompt& prompt, const Attempt& attempt,
                             std::vector<size_t>* lost) {
  Prompt current = prompt;
  for (;;) {
    const FusionTry result = attempt(current);
    if (result.status.ok() || !result.failed_segment.has_value() ||
        result.status.code() != StatusCode::kNotFound) {
      return result.status;
    }
    // Each round loses a cache, so this ends.
    lost->push_back(*result.failed_segment);
    current = current.WithoutCache(*result.failed_segment);
  }
}

}  // namespace intarsia::engine
