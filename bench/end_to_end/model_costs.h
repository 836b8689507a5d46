// ModelCosts: what a forward pass must compute and hold, from the model's sizes alone.
//
// Measured times and peaks are set against these, so they are formulas and ask no running code.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kv_layout.h"
#include "kernels/packed_matrix.h"
#include "model/model_config.h"

namespace intarsia::bench {

// Floating-point operations of a full prefill of `num_tokens`, logits of the last token only: all
// products, and attention over the visible half of the keys (a window where the layer has one).
double PrefillFlops(const model::ModelConfig& config, int64_t num_tokens);

// Bytes of keys and values of `num_tokens` in all layers.
int64_t KvBytes(const model::ModelConfig& config, kernels::KvType type, int64_t num_tokens);

// Bytes of activations that a pass over `num_rows` holds at once: the residual stream, its addend
// and norm, queries, keys, values and attention's output for all rows, and the feed-forward
// block's inner rows for 512 of them.
int64_t WorkspaceBytes(const model::ModelConfig& config, int64_t num_rows);

// FLOP/s of the best of several products [2048, 2048] x [2048, 2048]: the roof of a prefill on
// this machine, now. Takes a fraction of a second.
Result<double> MeasureProductRoof(kernels::ComputeType compute, ThreadPool* pool);

}  // namespace intarsia::bench
