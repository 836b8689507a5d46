// ForEachTarget: runs a test body once for every instruction set that this machine supports.
//
// Thread safety: changes the choice of the whole process; one test at a time.
#pragma once

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>
#include <hwy/targets.h>

namespace intarsia::kernels {

// Calls `body()` with each of Highway's targets chosen, from the best to plain scalar code, and
// restores the automatic choice.
template <typename Body>
void ForEachTarget(const Body& body) {
  std::vector<int64_t> targets{0};  // No bit: the scalar fallback.
  const int64_t supported = hwy::SupportedTargets();
  for (int bit = 0; bit < 62; ++bit) {
    if ((supported & (int64_t{1} << bit)) != 0) targets.push_back(int64_t{1} << bit);
  }
  for (const int64_t target : targets) {
    SCOPED_TRACE(target == 0 ? "scalar" : hwy::TargetName(target));
    hwy::GetChosenTarget().Update(target);
    body();
  }
  hwy::GetChosenTarget().Update(supported);
}

}  // namespace intarsia::kernels
