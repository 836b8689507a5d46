// The kernels behind AttentionMassCuda, for its own files alone.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

struct MassArguments {
  AttentionArguments rows;
  const float* weights = nullptr;  // [num_rows]
  const float* lse = nullptr;      // [num_rows, num_heads]
  float* partial = nullptr;        // [num_kv_heads, num_keys]
  float* mass = nullptr;           // [num_keys]
  int32_t num_keys = 0;            // 1 + the largest position
};

// A block for each tile of `tile_keys` keys and kv head. Errors: kUnsupported for more than a grid
// takes.
Result<unsigned> NumMassBlocks(const MassArguments& args, int64_t tile_keys);

// Enqueues the kernel that writes `partial` with wgmma. Errors: kUnsupported for a head_dim that is
// not compiled in or too many keys for a grid, kInternal if the launch fails.
// REQUIRES: a device of compute capability 9.0.
Status LaunchAttentionMassSm90(const MassArguments& args, Stream stream);

}  // namespace intarsia::kernels
