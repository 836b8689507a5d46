// Stands in for the header of this name in kernels/: kernels run one after another.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"
#include "tests/kernels/emulation/cuda_runtime.h"
#include "tests/kernels/emulation/emulated_block.h"

namespace intarsia::kernels {

inline void LetLaterKernelsStart() {}
inline void WaitForEarlierKernels() {}

template <typename Arguments>
Status LaunchBehind(const char*, void (*kernel)(Arguments), dim3 grid, int num_threads, Stream,
                    const Arguments& arguments) {
  const emulation::BlockShape shape{.num_blocks = static_cast<int32_t>(grid.x * grid.y),
                                    .num_threads = num_threads,
                                    .width = static_cast<int32_t>(grid.x)};
  for (int32_t i = 0; i < shape.num_blocks; ++i) {
    emulation::EmulatedBlock block(shape, i);
    block.Run([&] { kernel(arguments); });
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
