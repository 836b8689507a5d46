// The kernels behind AttentionRowsCuda, for its own files alone.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Joins the num_splits parts of every query. Errors: kUnsupported for a head_dim that is not
// compiled in, kInternal if the launch fails.
Status LaunchAttentionRowsMerge(const AttentionArguments& args, Stream stream);

// Enqueues the attention of `args`, planned with AttentionKernel::kHopper, on at most
// `num_multiprocessors` blocks. Errors: as above, and those of MakeTensorMap.
// REQUIRES: a device of compute capability 9.0.
Status LaunchAttentionRowsSm90(const AttentionArguments& args, int32_t num_multiprocessors,
                               Stream stream);

}  // namespace intarsia::kernels
