// The kernels behind AttentionRowsCuda, for its own files alone.
#pragma once

#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// Joins the num_splits parts of every query. Errors: kUnsupported for a head_dim that is not
// compiled in, kInternal if the launch fails.
Status LaunchAttentionRowsMerge(const AttentionArguments& args, Stream stream);

}  // namespace intarsia::kernels
