// FusedPrefill: the context of an answer, put together from cached KV and a few computed rows.
//
// Full prefill, prefix reuse, naive reuse and selective recompute are the same call with other
// caches and another selector. The tokens of a prompt are of three kinds, and the engine counts
// them: reused (cached and left), recomputed (cached and computed again), fresh (not cached).
//
// Thread safety: concurrent calls are safe and share the transformer's pool.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "engine/fusion/prompt.h"
#include "engine/fusion/propagation.h"
#include "engine/fusion/row_selector.h"
#include "model/transformer.h"

namespace intarsia::engine {

// When the probes of `attention` are computed.
enum class ProbePass : uint8_t {
  kWithRows,      // with all other rows
  kWithQuestion,  // once more with the question's pass, which then ranks over a shifted cache
  // With the question's pass, and not again, if that passes all layers: a device then has work
  // while it waits for caches.
  kWithQuestionOnly,
};

// As the option `probes` names them: with_rows, with_question, with_question_only. REQUIRES: one of
// these.
ProbePass ProbePassNamed(std::string_view name);

struct FusionOptions {
  std::string selector = "attention";
  // Recomputed rows as a share of the tokens whose cache is not exact, in [0, 1].
  double ratio = 0.15;
  PropagationMode propagate = PropagationMode::kTwoSided;
  ProbePass probes = ProbePass::kWithRows;
  // Share of the tokens that are probes, at most half of the rows.
  double probe_share = 0.03;
  // The share of the model's layers, in (0, 1], that the question passes before `attention` and
  // `design` choose rows, by all but the first third of them (FirstRankingLayer). With fewer layers
  // less is computed and loaded before the first row; the rest is loaded under the rows.
  double question_depth = 1.0;
};

struct FusionUsage {
  int64_t prompt_tokens = 0;  // = reused + recomputed + fresh, checked
  int64_t reused_tokens = 0;
  int64_t recomputed_tokens = 0;
  int64_t fresh_tokens = 0;
};

struct FusionTiming {
  double load_ms = 0.0;      // reading and verifying caches, summed over all threads
  double wait_ms = 0.0;      // the same by the clock: the computation has to wait for it
  int64_t read_bytes = 0;    // to a device: of caches on disk or in plain memory,
  int64_t pinned_bytes = 0;  // of caches in pinned memory,
  int64_t device_bytes = 0;  // and of those that were there already
  double question_ms = 0.0;  // the question's pass over the cached keys
  double solve_ms = 0.0;     // propagation weights
  double rows_ms = 0.0;      // the pass over the recomputed rows, placing included
  double total_ms = 0.0;
};

// The layers whose attention ranks tokens for recomputing, of those that the question passes: all
// from this one on. The first third looks at neighbours and formatting
// (docs/decisions/0011-layers-that-rank.md).
inline int32_t FirstRankingLayer(int32_t num_layers) { return num_layers / 3; }

// The layers whose attention says where an answer comes from: the last third.
inline int32_t FirstObservedLayer(int32_t num_layers) { return 2 * (num_layers / 3); }

// What running a prompt gives, wherever that was.
struct FusedPrompt {
  std::vector<float> logits;          // [vocab_size] of the last prompt token
  std::vector<int32_t> rows;          // recomputed positions, ascending
  std::vector<size_t> lost_segments;  // whose cache turned out to be missing or wrong
  FusionUsage usage;
  FusionTiming timing;
};

struct FusedContext : FusedPrompt {
  std::unique_ptr<model::KvCache> cache;  // all prompt tokens placed, room for more
};

// Runs the prompt. `num_new_tokens_max` more tokens fit into the returned cache.
// Errors: kInvalidArgument for an unknown selector or an option out of range; kResourceExhausted;
// kCancelled; kIo. A cache that cannot be read is no error: its tokens are computed.
Result<FusedContext> FusedPrefill(const model::Transformer& transformer, const Prompt& prompt,
                                  const FusionOptions& options, int64_t num_new_tokens_max,
                                  const CancelToken* cancel);

}  // namespace intarsia::engine
