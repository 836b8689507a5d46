#include "engine/fusion/fusion_plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "base/check.h"

namespace intarsia::engine {
namespace {

// Products on a device take their rows in tiles of so many: one row more than fills a tile costs as
// much as 64 (BENCHMARKS.md, "On a GPU"). The same on a CPU, so that the rows are.
constexpr int64_t kRowsOfATile = 64;

// `num_probes`, or up to a fifth fewer if with the rows beside them that fills the last tile.
int64_t FillTiles(int64_t num_probes, int64_t num_beside) {
  const int64_t filled = (num_probes + num_beside) / kRowsOfATile * kRowsOfATile - num_beside;
  return 5 * filled >= 4 * num_probes ? filled : num_probes;
}

}  // namespace

ProbePass ProbePassNamed(std::string_view name) {
  if (name == "with_question") return ProbePass::kWithQuestion;
  if (name == "with_question_only") return ProbePass::kWithQuestionOnly;
  INTARSIA_CHECK(name == "with_rows");
  return ProbePass::kWithRows;
}

FusionPlan MakeFusionPlan(const Prompt& prompt, const FusionOptions& options,
                          const RowSelector& selector) {
  FusionPlan plan = {.candidates = prompt.Candidates(), .fresh = prompt.FreshPositions()};
  const auto num_candidates = static_cast<int64_t>(plan.candidates.size());
  plan.budget = std::llround(options.ratio * static_cast<double>(num_candidates));
  if (selector.name() == "full") plan.budget = num_candidates;
  if (selector.name() == "none") plan.budget = 0;
  int64_t num_probes = selector.NumProbes(num_candidates, plan.budget);
  if (options.probes == ProbePass::kWithQuestionOnly) {
    num_probes = FillTiles(num_probes, std::ssize(plan.fresh));
  }
  plan.probes = EvenlySpaced(plan.candidates, num_probes);
  return plan;
}

Result<std::unique_ptr<RowSelector>> MakeFusionSelector(const FusionOptions& options) {
  if (!(options.ratio >= 0.0 && options.ratio <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  "ratio must be in [0, 1]: ratio=" + std::to_string(options.ratio));
  }
  if (!(options.question_depth > 0.0 && options.question_depth <= 1.0)) {
    return Status(StatusCode::kInvalidArgument, "question_depth must be in (0, 1]: depth=" +
                                                    std::to_string(options.question_depth));
  }
  if (!(options.probe_share >= 0.0 && options.probe_share <= 1.0)) {
    return Status(StatusCode::kInvalidArgument, "probe_share must be in [0, 1]: probe_share=" +
                                                    std::to_string(options.probe_share));
  }
  const bool is_propagating = options.propagate != PropagationMode::kOff;
  return MakeRowSelector(options.selector,
                         {.probe_share = is_propagating ? options.probe_share : 0.0});
}

int32_t NumQuestionLayers(const FusionOptions& options, int32_t num_layers) {
  return static_cast<int32_t>(std::ceil(options.question_depth * num_layers));
}

bool IsKeepingProbes(const FusionOptions& options, int32_t num_layers) {
  return options.probes == ProbePass::kWithQuestionOnly &&
         NumQuestionLayers(options, num_layers) == num_layers;
}

std::vector<int32_t> WithoutPositions(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> left;
  std::ranges::set_difference(a, b, std::back_inserter(left));
  return left;
}

std::vector<int32_t> MergePositions(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> merged;
  std::ranges::merge(a, b, std::back_inserter(merged));
  return merged;
}

std::vector<int32_t> TokensAt(const Prompt& prompt, std::span<const int32_t> positions) {
  std::vector<int32_t> tokens;
  tokens.reserve(positions.size());
  for (const int32_t position : positions) {
    tokens.push_back(prompt.tokens()[static_cast<size_t>(position)]);
  }
  return tokens;
}

FusionUsage CountTokens(const Prompt& prompt, const FusionPlan& plan, size_t num_recomputed) {
  FusionUsage usage;
  usage.prompt_tokens = prompt.num_tokens();
  usage.recomputed_tokens = static_cast<int64_t>(num_recomputed);
  usage.fresh_tokens = std::ssize(plan.fresh);
  for (const Segment& segment : prompt.segments()) {
    if (segment.cached != nullptr) usage.reused_tokens += segment.size();
  }
  usage.reused_tokens -= usage.recomputed_tokens;
  INTARSIA_CHECK(usage.prompt_tokens ==
                 usage.reused_tokens + usage.recomputed_tokens + usage.fresh_tokens);
  return usage;
}

}  // namespace intarsia::engine
