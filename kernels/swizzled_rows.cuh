// Rows in shared memory as wgmma and bulk copies of Hopper want them: slabs of 64 bf16 elements, in
// which the 16-byte pieces of a row of 128 bytes are permuted by the row.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace intarsia::kernels {

// Byte of a 16-byte piece of a row, of `kRows` rows.
template <int kRows>
__device__ __forceinline__ uint32_t SwizzledPiece(int row, int piece) {
  return static_cast<uint32_t>(piece / 8 * kRows * 128 + row * 128 + ((piece % 8 ^ row % 8) << 4));
}

}  // namespace intarsia::kernels
