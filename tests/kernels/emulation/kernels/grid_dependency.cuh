// Stands in for the header of this name in kernels/: kernels run one after another.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/kernel_launch.cuh"
#include "tests/kernels/emulation/cuda_runtime.h"
#include "tests/kernels/emulation/emulated_block.h"

namespace intarsia::kernels {

inline void LetLaterKernelsStart() {}
inline void WaitForEarlierKernels() {}

template <typename Arguments>
Status LaunchBehind(const char*, void (*kernel)(Arguments), const LaunchShape& launch,
                    const Arguments& arguments) {
  const emulation::BlockShape shape{
      .num_blocks = static_cast<int32_t>(launch.num_blocks * launch.num_blocks_y),
      .num_threads = launch.num_threads,
      .shared_bytes = launch.shared_bytes,
      .width = static_cast<int32_t>(launch.num_blocks)};
  for (int32_t i = 0; i < shape.num_blocks; ++i) {
    emulation::EmulatedBlock block(shape, i);
    block.Run([&] { kernel(arguments); });
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
