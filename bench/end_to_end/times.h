// Times: the runs of one case: the first, which warms up, and the others, whose median counts.
//
// Thread safety: owned by one thread.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "bench/end_to_end/samples.h"

namespace intarsia::bench {

struct Times {
  double first_ms = -1.0;
  std::vector<double> ms;

  void Add(double milliseconds) {
    if (first_ms < 0.0) {
      first_ms = milliseconds;
    } else {
      ms.push_back(milliseconds);
    }
  }
  double median() const { return MedianOf(ms); }
  nlohmann::json ToJson() const {
    return {{"median_ms", median()}, {"cv", VariationOf(ms)}, {"first_ms", first_ms}, {"ms", ms}};
  }
};

}  // namespace intarsia::bench
