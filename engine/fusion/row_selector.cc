#include "engine/fusion/row_selector.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "engine/fusion/row_design.h"

namespace intarsia::engine {
namespace {

constexpr std::array<std::string_view, 7> kNames = {"none",      "prefix", "deviation", "stride",
                                                    "attention", "design", "full"};

// The `count` candidates of highest score, ascending.
std::vector<int32_t> Highest(std::span<const int32_t> candidates, std::span<const float> scores,
                             int64_t count) {
  std::vector<int32_t> picked(candidates.begin(), candidates.end());
  count = std::min(count, static_cast<int64_t>(picked.size()));
  const auto is_better = [&](int32_t a, int32_t b) {
    const float score_a = scores[static_cast<size_t>(a)];
    const float score_b = scores[static_cast<size_t>(b)];
    return score_a != score_b ? score_a > score_b : a < b;
  };
  std::nth_element(picked.begin(), picked.begin() + count, picked.end(), is_better);
  picked.resize(static_cast<size_t>(count));
  std::sort(picked.begin(), picked.end());
  return picked;
}

class NoneSelector : public RowSelector {
 public:
  std::string_view name() const override { return "none"; }
  ScoreKind score_kind() const override { return ScoreKind::kNone; }
  Result<std::vector<int32_t>> Select(const SelectionInput&) const override {
    return std::vector<int32_t>();
  }
};

class FullSelector : public RowSelector {
 public:
  std::string_view name() const override { return "full"; }
  ScoreKind score_kind() const override { return ScoreKind::kNone; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    return std::vector<int32_t>(input.candidates.begin(), input.candidates.end());
  }
};

class StrideSelector : public RowSelector {
 public:
  std::string_view name() const override { return "stride"; }
  ScoreKind score_kind() const override { return ScoreKind::kNone; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    return EvenlySpaced(input.candidates, input.budget);
  }
};

class PrefixSelector : public RowSelector {
 public:
  std::string_view name() const override { return "prefix"; }
  ScoreKind score_kind() const override { return ScoreKind::kNone; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    // A token's score falls with its place in its chunk, so all chunks give equally many.
    std::vector<float> scores(static_cast<size_t>(input.prompt->num_tokens()));
    for (const Segment& segment : input.prompt->segments()) {
      for (int64_t at = segment.begin; at < segment.end; ++at) {
        scores[static_cast<size_t>(at)] = -static_cast<float>(at - segment.begin);
      }
    }
    return Highest(input.candidates, scores, input.budget);
  }
};

class DeviationSelector : public RowSelector {
 public:
  std::string_view name() const override { return "deviation"; }
  ScoreKind score_kind() const override { return ScoreKind::kDeviation; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    return Highest(input.candidates, input.scores, input.budget);
  }
};

// The probes of a selector that asks the question.
class AskingSelector : public RowSelector {
 public:
  explicit AskingSelector(double probe_share) : probe_share_(probe_share) {}
  ScoreKind score_kind() const override { return ScoreKind::kAttention; }
  int64_t NumProbes(int64_t num_candidates, int64_t budget) const override {
    return std::min<int64_t>(budget / 2,
                             std::llround(probe_share_ * static_cast<double>(num_candidates)));
  }

 private:
  const double probe_share_;
};

class AttentionSelector : public AskingSelector {
 public:
  using AskingSelector::AskingSelector;
  std::string_view name() const override { return "attention"; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    std::vector<int32_t> others;
    std::ranges::set_difference(input.candidates, input.probes, std::back_inserter(others));
    const std::vector<int32_t> best =
        Highest(others, input.scores, input.budget - std::ssize(input.probes));
    std::vector<int32_t> all;
    std::ranges::merge(input.probes, best, std::back_inserter(all));
    return all;
  }
};

class DesignSelector : public AskingSelector {
 public:
  using AskingSelector::AskingSelector;
  std::string_view name() const override { return "design"; }
  Result<std::vector<int32_t>> Select(const SelectionInput& input) const override {
    std::vector<int32_t> chunk_begins;
    for (const Segment& segment : input.prompt->segments()) {
      chunk_begins.push_back(static_cast<int32_t>(segment.begin));
    }
    INTARSIA_ASSIGN_OR_RETURN(
        const std::vector<int32_t> picked,
        DesignRows({.candidates = input.candidates,
                    .chunk_begins = chunk_begins,
                    .weights = input.scores,
                    .taken = input.taken,
                    .budget = input.budget - static_cast<int64_t>(input.taken.size()),
                    .pool = input.pool}));
    std::vector<int32_t> all;
    std::ranges::merge(input.taken, picked, std::back_inserter(all));
    return all;
  }
};

}  // namespace

std::span<const std::string_view> RowSelectorNames() { return kNames; }

std::vector<int32_t> EvenlySpaced(std::span<const int32_t> candidates, int64_t count) {
  std::vector<int32_t> picked;
  const auto size = static_cast<int64_t>(candidates.size());
  for (int64_t i = 0; i < count; ++i) {
    picked.push_back(candidates[static_cast<size_t>(i * size / count)]);
  }
  return picked;
}

Result<std::unique_ptr<RowSelector>> MakeRowSelector(std::string_view name,
                                                     const RowSelectorOptions& options) {
  if (name == "none") return std::make_unique<NoneSelector>();
  if (name == "prefix") return std::make_unique<PrefixSelector>();
  if (name == "deviation") return std::make_unique<DeviationSelector>();
  if (name == "stride") return std::make_unique<StrideSelector>();
  if (name == "attention") return std::make_unique<AttentionSelector>(options.probe_share);
  if (name == "design") return std::make_unique<DesignSelector>(options.probe_share);
  if (name == "full") return std::make_unique<FullSelector>();
  std::string names;
  for (const std::string_view known : kNames) {
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  return Status(StatusCode::kInvalidArgument,
                "unknown selector: " + std::string(name) + " (one of " + names + ")");
}

}  // namespace intarsia::engine
