// Stands in for the header of this name in kernels/: runs the blocks of a kernel one after another.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"
#include "tests/kernels/emulation/emulated_block.h"

namespace intarsia::kernels {

struct LaunchShape {
  unsigned num_blocks = 0;
  unsigned num_blocks_y = 1;
  int num_threads = 0;
  int shared_bytes = 0;
  Stream stream = nullptr;
};

template <typename Arguments>
Status LaunchKernel(const char*, void (*kernel)(Arguments), const LaunchShape& shape,
                    const Arguments& arguments) {
  const auto num_blocks = static_cast<int32_t>(shape.num_blocks);
  for (int32_t i = 0; i < num_blocks; ++i) {
    emulation::EmulatedBlock block({num_blocks, shape.num_threads, shape.shared_bytes}, i);
    block.Run([&] { kernel(arguments); });
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
