// FusionPlan: what is known of a fused prefill before anything is loaded, and how its tokens are
// counted. Shared by its forms on the CPU and on a device.
//
// Thread safety: a plain value.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/fusion/fused_prefill.h"
#include "engine/fusion/prompt.h"
#include "engine/fusion/row_selector.h"

namespace intarsia::engine {

// The layer whose V tells how far a cached token is off: layer 0 sees no context, so it is the
// first with a signal (CacheBlend, section 4.3).
inline constexpr int32_t kDeviationLayer = 1;

struct FusionPlan {
  std::vector<int32_t> candidates;  // Prompt::Candidates
  std::vector<int32_t> fresh;       // Prompt::FreshPositions
  int64_t budget = 0;               // of candidates to recompute
  // Of them, those that the selector spreads evenly. Where the question's pass computes them for
  // good, they may be a fifth fewer than the selector's, so that the pass fills its tiles.
  std::vector<int32_t> probes = {};

  // Whether a selector has a choice to make: not nothing, and not everything.
  bool is_choice() const { return budget > 0 && budget < static_cast<int64_t>(candidates.size()); }
  // Whether the shift of `num_rows` recomputed candidates is passed on: there are some, and some to
  // pass it on to.
  bool is_propagating(PropagationMode mode, size_t num_rows) const {
    return mode != PropagationMode::kOff && num_rows > 0 && num_rows < candidates.size();
  }
};

FusionPlan MakeFusionPlan(const Prompt& prompt, const FusionOptions& options,
                          const RowSelector& selector);

// The selector that `options` name, with probes only where propagation uses them.
// Errors: kInvalidArgument for an unknown selector, a ratio or probe_share outside [0, 1] or a
// question_depth outside (0, 1].
Result<std::unique_ptr<RowSelector>> MakeFusionSelector(const FusionOptions& options);

// Layers that the question passes in a model of `num_layers`, at least one.
int32_t NumQuestionLayers(const FusionOptions& options, int32_t num_layers);

// Whether the question's pass computes the probes for good.
bool IsKeepingProbes(const FusionOptions& options, int32_t num_layers);

// Ascending positions of `a` that are not in `b`. REQUIRES: each ascends.
std::vector<int32_t> WithoutPositions(std::span<const int32_t> a, std::span<const int32_t> b);

// Ascending positions of both. REQUIRES: each ascends.
std::vector<int32_t> MergePositions(std::span<const int32_t> a, std::span<const int32_t> b);

// The tokens at these positions.
std::vector<int32_t> TokensAt(const Prompt& prompt, std::span<const int32_t> positions);

// prompt = reused + recomputed + fresh, checked.
FusionUsage CountTokens(const Prompt& prompt, const FusionPlan& plan, size_t num_recomputed);

}  // namespace intarsia::engine
