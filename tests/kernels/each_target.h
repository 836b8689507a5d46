// ForEachTarget: runs a test body once for every instruction set that this machine can execute.
#pragma once

#include <cstdint>

#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

namespace intarsia::kernels {

// Calls body() with dynamic dispatch bound to each supported target in turn, the scalar one
// included, and returns to the best afterwards. Not to be called concurrently with kernels.
template <typename Body>
void ForEachTarget(const Body& body) {
  for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body();
    hwy::SetSupportedTargetsForTest(0);
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace intarsia::kernels
